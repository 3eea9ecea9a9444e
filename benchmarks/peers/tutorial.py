"""The usual PyTorch loop of transfer learning: ImageFolder, two workers, SGD, fp32."""

import sys
import time

import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

data, architecture, epochs, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
train_transform = transforms.Compose(
    [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        normalize,
    ]
)
val_transform = transforms.Compose(
    [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalize]
)
train = datasets.ImageFolder(f"{data}/train", train_transform)
val = datasets.ImageFolder(f"{data}/val", val_transform)
loaders = {
    "train": DataLoader(train, batch_size=32, shuffle=True, num_workers=2),
    "val": DataLoader(val, batch_size=32, num_workers=2),
}
model = getattr(models, architecture)(weights=None)
if mode == "head":
    for parameter in model.parameters():
        parameter.requires_grad = False
if architecture.startswith("resnet"):
    model.fc = nn.Linear(model.fc.in_features, len(train.classes))
    head = model.fc
else:
    head = nn.Linear(model.classifier[-1].in_features, len(train.classes))
    model.classifier[-1] = head
trained = head.parameters() if mode == "head" else model.parameters()
optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9)
criterion = nn.CrossEntropyLoss()
for epoch in range(epochs):
    started = time.time()
    for phase, loader in loaders.items():
        model.train(phase == "train")
        correct = 0
        for images, labels in loader:
            with torch.set_grad_enabled(phase == "train"):
                logits = model(images)
                loss = criterion(logits, labels)
            if phase == "train":
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            correct += (logits.argmax(1) == labels).sum().item()
        print(epoch, phase, correct / len(loader.dataset), f"{time.time() - started:.1f} s")
save_file(model.state_dict(), f"{data}/../tutorial.safetensors")
