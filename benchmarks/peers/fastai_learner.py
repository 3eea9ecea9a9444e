"""fastai's vision learner with its defaults, batches of 32, two workers."""

import sys

from fastai.vision.all import (
    ImageDataLoaders,
    RandomResizedCrop,
    accuracy,
    models,
    vision_learner,
)

data, architecture, epochs, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
loaders = ImageDataLoaders.from_folder(
    data,
    train="train",
    valid="val",
    item_tfms=RandomResizedCrop(224, min_scale=0.35),
    bs=32,
    num_workers=2,
    device="cpu",
)
learner = vision_learner(loaders, getattr(models, architecture), pretrained=False, metrics=accuracy)
if mode == "head":
    learner.freeze()
else:
    learner.unfreeze()
with learner.no_bar():
    learner.fit_one_cycle(epochs)
learner.path = learner.path.parent
learner.save("fastai")
