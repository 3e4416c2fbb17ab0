"""What does a plain Hugging Face script look like that trains on our packs? The page on data shows it."""

EXAMPLE = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from ropewalk.data import PackDataset

packs = PackDataset("PLAN_FOLDER")
model = AutoModelForCausalLM.from_pretrained("MODEL_FOLDER")
settings = TrainingArguments("runs/trainer", max_steps=2, per_device_train_batch_size=1)
trainer = Trainer(model, settings, train_dataset=packs)
trainer.train()
"""
