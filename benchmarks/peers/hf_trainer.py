"""Hugging Face's Trainer on an ImageFolder, with its defaults, two workers.

With WEIGHTS, a .safetensors file of torchvision's layout, and SEED as further arguments it starts
from those.
"""

import sys

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import datasets, models, transforms
from transformers import Trainer, TrainingArguments

data, architecture, epochs, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
weights, seed = (*sys.argv[5:], None, None)[:2]
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
        if weights:
            state = {k: v for k, v in load_file(weights).items() if not k.startswith("fc.")}
            print(self.network.load_state_dict(state, strict=False))
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
        seed=int(seed or 42),
    ),
    data_collator=collate,
    train_dataset=sets["train"],
    eval_dataset=sets["val"],
    compute_metrics=lambda found: {
        "accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())
    },
)
trainer.train()
for entry in trainer.state.log_history:
    if "eval_accuracy" in entry:
        print("accuracy", entry["eval_accuracy"])
trainer.save_model()
