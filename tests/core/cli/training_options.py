"""Options of the commands that train: what to say, and which field of the request it is then found in."""

from pathlib import Path

from semfreeze_core.records.training import LoraSetup

# By option: the words given, the field of the request (dots go deeper), and what must stand there.
Options = dict[str, tuple[tuple[object, ...], str, object]]

_SHARED: Options = {
    "--batch-size": ((3,), "setup.batch_size", 3),
    "--micro-batch-size": ((2,), "setup.micro_batch_size", 2),
    "--precision": (("bf16",), "setup.precision", "bf16"),
    "--checkpointing": (("reentrant",), "setup.checkpointing", "reentrant"),
    "--prefix-cache": ((), "setup.prefix_cache", True),
    "--no-prefix-cache": ((), "setup.prefix_cache", False),
    "--optimizer": (("sgd",), "setup.optimizer", "sgd"),
    "--loss": (("materialised",), "setup.loss", "materialised"),
    "--batches": (("by-length",), "setup.batches", "by-length"),
    "--accuracy-examples": ((7,), "n_accuracy", 7),
    "--max-length": ((33,), "setup.sequence_length", 33),
    "--model": (("elsewhere",), "model.source", "elsewhere"),
    "--revision": (("v2",), "model.revision", "v2"),
    "--device": (("cpu",), "model.device", "cpu"),
    "--trust-remote-code": ((), "model.trust_remote_code", True),
    "--allow-pickle": ((), "model.allow_pickle", True),
    "--prompt-field": (("ask",), "mapping.prompt_field", "ask"),
    "--completion-field": (("say",), "mapping.completion_field", "say"),
    "--label-field": (("kind",), "mapping.label_field", "kind"),
    "--template": (("{ask}",), "mapping.template", "{ask}"),
    "--messages-field": (("chat",), "mapping.messages_field", "chat"),
    "--text-field": (("all",), "mapping.text_field", "all"),
}
VALIDATE: Options = _SHARED | {
    "--train": (("mine.jsonl",), "train", "mine.jsonl"),
    "--eval": (("held.jsonl",), "evaluation", "held.jsonl"),
    "--arms": (("full, depth:1",), "arms", ("full", "depth:1")),
    "--steps": ((9,), "setup.steps", 9),
    "--seeds": ((4,), "seeds", 4),
    "--match": (("steps",), "match", "steps"),
    "--budget": (("steps",), "match", "steps"),  # its old name
    "--lr": (("full=0.5,lora=0.25",), "rates", {"full": 0.5, "lora": 0.25}),
    "--lora-rank": ((5,), "lora", LoraSetup(5)),
    "--lora-targets": (("q_proj, v_proj",), "lora", LoraSetup(16, ("q_proj", "v_proj"))),
    "--rule": (("paper",), "plan.rule", "paper"),
    "--depth": ((3,), "plan.freeze_depth", 3),
    "--train-examples": ((11,), "setup.train_examples", 11),
    "--eval-examples": ((12,), "n_eval", 12),
    "--runner": (("ray",), "runner", "ray"),
    "--out": (("/tmp/somewhere",), "folder", Path("/tmp/somewhere")),
    "--overwrite": ((), "overwrite", True),
    "--json": ((), "printed", "{"),
    "--quiet": ((), "reported", False),
    "-q": ((), "reported", False),
}
_NOT_SWEPT = ("--arms", "--match", "--budget", "--lora-rank", "--lora-targets", "--rule", "--depth")
SWEEP: Options = {name: option for name, option in VALIDATE.items() if name not in _NOT_SWEPT} | {
    "--depths": (("2,1",), "arms", ("full", "depth:1", "depth:2")),
    "--progressive": (("1-2@3", "--depths", "1"), "arms", ("full", "depth:1", "progressive:1-2@3")),
    "--metric": (("logit_z",), "metric", "logit_z"),
    "--lr": (("full=0.5,depth:1=0.25",), "rates", {"full": 0.5, "depth:1": 0.25}),
}
# Of `plan` those that only the rule measured takes.
PILOTS: Options = {
    "--train": (("mine.jsonl",), "train", "mine.jsonl"),
    "--eval": (("held.jsonl",), "evaluation", "held.jsonl"),
    "--aim": (("steps",), "aim", "steps"),
    "--pilot-budget": ((0.3,), "budget", 0.3),
    "--depths": (("2,1",), "depths", (1, 2)),
    "--eval-examples": ((12,), "n_eval", 12),
    "--pilots-in": (("/tmp/somewhere",), "folder", Path("/tmp/somewhere")),
    "--model": (("elsewhere",), "model.source", "elsewhere"),
    "--runner": (("ray",), "runner", "ray"),
    "--device": (("cpu",), "model.device", "cpu"),
    "--trust-remote-code": ((), "model.trust_remote_code", True),
    "--allow-pickle": ((), "model.allow_pickle", True),
    "--quiet": ((), "reported", False),
    "-q": ((), "reported", False),
}
TRAIN: Options = _SHARED | {
    "--data": (("mine.jsonl",), "data", "mine.jsonl"),
    "--eval": (("held.jsonl",), "evaluation", "held.jsonl"),
    "--epochs": ((2,), "epochs", 2),
    "--steps": ((9,), "steps", 9),
    "--lr": ((0.5,), "learning_rate", 0.5),
    "--save-steps": ((6,), "save_steps", 6),
    "--report-to": (("tensorboard, wandb",), "report_to", ("tensorboard", "wandb")),
    "--keep-best": (("--eval", "held.jsonl"), "keep_best", True),
    "--shard": (("--lr", 1e-4), "shard", True),
    "--seed": ((8,), "seed", 8),
    "--out": (("/tmp/somewhere",), "folder", Path("/tmp/somewhere")),
    "--json": ((), "printed", "{"),
    "--quiet": ((), "reported", False),
    "-q": ((), "reported", False),
}
_MOVED = {
    "setup.batch_size": "request.options.batch_size",
    "setup.micro_batch_size": "request.options.micro_batch_size",
    "setup.precision": "request.options.precision",
    "setup.checkpointing": "request.options.checkpointing",
    "setup.prefix_cache": "request.options.prefix_cache",
    "setup.optimizer": "request.options.optimizer",
    "setup.loss": "request.options.loss",
    "setup.batches": "request.options.batches",
    "setup.sequence_length": "request.max_length",
}
FINETUNE: Options = {
    name: (arguments, _MOVED.get(field, f"request.{field}"), expected)
    for name, (arguments, field, expected) in _SHARED.items()
} | {
    "--data": (("mine.jsonl",), "request.data", "mine.jsonl"),
    "--eval": (("held.jsonl",), "request.evaluation", "held.jsonl"),
    "--epochs": ((2,), "request.epochs", 2),
    "--steps": ((9,), "request.steps", 9),
    "--objective": (("time 2h",), "request.objective.limit", 7200),
    "--depth": ((3,), "request.depth", 3),
    "--eos": ((), "request.add_eos", True),
    "--no-eos": ((), "request.add_eos", False),
    "--out": (("/tmp/somewhere",), "folder", Path("/tmp/somewhere")),
    "--json": ((), "printed", "{"),
    "--quiet": ((), "reported", False),
    "-q": ((), "reported", False),
}
