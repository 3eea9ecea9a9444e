"""Features from a plain loop: ImageFolder, two workers, fp32, no gradient."""

import sys

import numpy as np
import timm
import torch
from timm.data import create_transform, resolve_data_config
from torch.utils.data import DataLoader
from torchvision import datasets

data, architecture, out = sys.argv[1:4]
model = timm.create_model(architecture, num_classes=0).eval()
transform = create_transform(**resolve_data_config({}, model=model))
pictures = DataLoader(datasets.ImageFolder(data, transform), batch_size=32, num_workers=2)
with torch.no_grad():
    rows = [(model(images).numpy(), labels.numpy()) for images, labels in pictures]
features, labels = (np.concatenate(part) for part in zip(*rows, strict=True))
np.savez(out, features=features, labels=labels)
