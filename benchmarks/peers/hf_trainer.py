"""Hugging Face's Trainer on an ImageFolder, with its defaults, two workers."""

import sys

import torch
from torch import nn
from torchvision import datasets, models, transforms
from transformers import Trainer, TrainingArguments

data, architecture, epochs, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
views = {
    "train": [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()],
    "val": [transforms.Resize(256), transforms.CenterCrop(224)],
}
sets = {
    name: datasets.ImageFolder(
        f"{data}/{name}", transforms.Compose([*view, transforms.ToTensor(), normalize])
    )
    for name, view in views.items()
}


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = getattr(models, architecture)(
            weights=None, num_classes=len(sets["train"].classes)
        )
        if mode == "head":
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad = name.startswith(("fc.", "classifier."))

    def forward(self, pixel_values, labels=None):
        logits = self.network(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def collate(rows):
    return {
        "pixel_values": torch.stack([image for image, _ in rows]),
        "labels": torch.tensor([label for _, label in rows]),
    }


trainer = Trainer(
    model=Classifier(),
    args=TrainingArguments(
        output_dir=f"{data}/../hf",
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        num_train_epochs=epochs,
        eval_strategy="epoch",
        save_strategy="no",
        dataloader_num_workers=2,
        use_cpu=True,
        report_to=[],
    ),
    data_collator=collate,
    train_dataset=sets["train"],
    eval_dataset=sets["val"],
)
trainer.train()
trainer.save_model()
