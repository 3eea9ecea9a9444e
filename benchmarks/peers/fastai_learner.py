"""fastai's vision learner with its defaults, batches of 32, two workers.

With WEIGHTS, a .safetensors file of ResNet18, and SEED as further arguments it starts from those.
"""

import sys

from fastai.vision.all import (
    ImageDataLoaders,
    Normalize,
    RandomResizedCrop,
    accuracy,
    imagenet_stats,
    models,
    set_seed,
    vision_learner,
)
from safetensors.torch import load_file

data, architecture, epochs, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
weights, seed = (*sys.argv[5:], None, None)[:2]
if seed is not None:
    set_seed(int(seed))
loaders = ImageDataLoaders.from_folder(
    data,
    train="train",
    valid="val",
    item_tfms=RandomResizedCrop(224, min_scale=0.35),
    bs=32,
    num_workers=2,
    device="cpu",
    # vision_learner normalises only for weights that it loads itself.
    batch_tfms=[Normalize.from_stats(*imagenet_stats)] if weights else None,
)
learner = vision_learner(loaders, getattr(models, architecture), pretrained=False, metrics=accuracy)
if weights:
    # fastai's body has torchvision's layers in their order, without the last two.
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    numbers = {name: str(number) for number, name in enumerate(names)}
    state = {
        f"{numbers[module]}.{rest}": tensor
        for module, _, rest, tensor in (
            (*k.partition("."), v) for k, v in load_file(weights).items()
        )
        if module in numbers
    }
    print(learner.model[0].load_state_dict(state))
learner.unfreeze() if mode == "full" else learner.freeze()
with learner.no_bar():
    # fine_tune trains the head for an epoch, and then everything.
    learner.fine_tune(epochs) if mode == "fine_tune" else learner.fit_one_cycle(epochs)
for _, _, value in learner.recorder.values:
    print("accuracy", value)
learner.path = learner.path.parent
learner.save("fastai")
