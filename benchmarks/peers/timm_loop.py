"""timm's data pipeline, model, optimizer and schedule in a loop like that of its train.py.

bf16 autocast and channels_last, which train.py uses with --amp --amp-dtype bfloat16
--channels-last. With WEIGHTS, a .safetensors file, and SEED as further arguments it starts from
those, at train.py's rate for batches of 32.
"""

import sys

import timm
import torch
from safetensors.torch import save_file
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

data, architecture, epochs, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
weights, seed = (*sys.argv[5:], None, None)[:2]
if seed is not None:
    timm.utils.random_seed(int(seed))
assert mode == "full", "timm's train.py trains everything"
sets = {name: create_dataset("", data, split=name) for name in ("train", "val")}
classes = len(sets["train"].reader.class_to_idx)
overlay = {"pretrained": True, "pretrained_cfg_overlay": {"file": weights}} if weights else {}
model = timm.create_model(architecture, num_classes=classes, **overlay)
model.to(memory_format=torch.channels_last)
config = resolve_data_config({}, model=model)
shared = {"batch_size": 32, "use_prefetcher": False, "num_workers": 2}
expected = {key: config[key] for key in ("input_size", "interpolation", "mean", "std")}
train = create_loader(sets["train"], is_training=True, color_jitter=0.4, **expected, **shared)
val = create_loader(sets["val"], crop_pct=config["crop_pct"], **expected, **shared)
optimizer = create_optimizer_v2(
    model, opt="sgd", lr=0.1 * 32 / 256 if weights else 0.05, momentum=0.9, weight_decay=2e-5
)
scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=epochs)
criterion = LabelSmoothingCrossEntropy(0.1)
for epoch in range(epochs):
    model.train()
    for images, labels in train:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    correct = 0
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for images, labels in val:
            images = images.contiguous(memory_format=torch.channels_last)
            correct += (model(images).argmax(1) == labels).sum().item()
    scheduler.step(epoch + 1)
    print("accuracy", correct / len(sets["val"]))
state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
save_file(state, f"{data}/../timm.safetensors")
