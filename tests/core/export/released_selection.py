"""Run by test_released_trainers.py where a trainer's release is importable: its own code says what it would train.

Takes the trainer's name, a file of jobs and a file for the answer; imports nothing of semfreeze.
"""

import importlib.util
import json
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

PACKAGES = {
    "axolotl": "axolotl",
    "llama-factory": "llamafactory",
    "ms-swift": "ms-swift",
    "nemo-automodel": "nemo-automodel",
    "oumi": "oumi",
}
BESIDE = ("torch", "transformers", "peft", "accelerate", "trl")
SECTIONS = ("step_scheduler", "lr_scheduler", "optimizer", "loss_fn", "checkpoint", "dataloader")  # of NeMo's recipe


def axolotl_selector():
    """The schema's check of the whole configuration, then freeze_layers_except, as axolotl's train.py calls it."""
    import yaml
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.freeze import freeze_layers_except

    def select(model, text, folder):
        cfg = validate_config(DictDefault(yaml.safe_load(text)))
        if cfg.unfrozen_parameters:
            freeze_layers_except(model, cfg.unfrozen_parameters)

    return select


def llama_factory_selector():
    """The command line's reading of the file and check of its arguments, then init_adapter."""
    from llamafactory.hparams.parser import get_train_args
    from llamafactory.model.adapter import init_adapter

    def select(model, text, folder):
        file = folder / "llama_factory.yaml"
        file.write_text(text, encoding="utf-8")
        sys.argv = ["llamafactory-cli", str(file)]
        model_args, _, _, finetuning_args, _ = get_train_args()
        init_adapter(model.config, model, model_args, finetuning_args, is_trainable=True)

    return select


def ms_swift_selector():
    """The flags read by TunerArguments, then freeze_parameters and activate_parameters, as its tuner.py calls them."""
    import swift
    from swift.utils import activate_parameters, freeze_parameters, parse_args

    # The file alone: its package's own __init__ wants every dependency of ms-swift.
    file = Path(swift.__path__[0]) / "arguments" / "tuner_args.py"
    spec = importlib.util.spec_from_file_location("swift_tuner_args", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)

    class Arguments(module.TunerArguments):
        """With what ModelArguments, another parent of ms-swift's class, finds out of a model of text."""

        tuner_type = "full"
        model_meta = SimpleNamespace(is_multimodal=False, model_arch=None)

    def select(model, text, folder):
        arguments = shlex.split(text.replace("\\\n", ""), comments=True)
        assert arguments[:2] == ["swift", "sft"]
        args, left = parse_args(Arguments, arguments[2:])
        assert left[left.index("--tuner_type") + 1] == "full"
        freeze_parameters(model, args.freeze_parameters_ratio, args.freeze_parameters, args.freeze_parameters_regex)
        if args.trainable_parameters or args.trainable_parameters_regex:
            activate_parameters(model, args.trainable_parameters, args.trainable_parameters_regex)

    return select


def nemo_automodel_selector():
    """The recipe's reading of every section but the model's, then apply_parameter_freezing, as infrastructure.py does.

    The model's section names a loader that wants a GPU; peft and quantization are no section of a plan of weights.
    """
    import yaml
    from nemo_automodel.components.config.loader import ConfigNode
    from nemo_automodel.components.utils.model_utils import apply_parameter_freezing
    from nemo_automodel.recipes._dist_utils import parse_distributed_section
    from nemo_automodel.recipes._typed_config import RecipeConfig

    def select(model, text, folder):
        sections = yaml.safe_load(text)
        assert sections.pop("model")["_target_"] == "nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained"
        config = RecipeConfig(ConfigNode(sections))
        for section in SECTIONS:
            assert getattr(config, section) is not None, section
        parse_distributed_section(config.distributed.to_dict())
        if config.freeze_config is not None:
            apply_parameter_freezing(model, config.freeze_config, strict=True)

    return select


def oumi_selector():
    """The command line's reading of the file and check of it, then freeze_model_layers, as builders/models.py does."""
    from oumi.core.configs import TrainingConfig
    from oumi.utils.torch_utils import freeze_model_layers

    def select(model, text, folder):
        file = folder / "oumi.yaml"
        file.write_text(text, encoding="utf-8")
        config = TrainingConfig.from_yaml(file)
        config.finalize_and_validate()
        listed = config.model.freeze_layers
        assert freeze_model_layers(model, listed) == len(listed)  # it only warns about one that is not there

    return select


SELECTORS = {
    "axolotl": axolotl_selector,
    "llama-factory": llama_factory_selector,
    "ms-swift": ms_swift_selector,
    "nemo-automodel": nemo_automodel_selector,
    "oumi": oumi_selector,
}


def main(trainer, jobs_file, answer_file):
    from transformers import AutoConfig, AutoModelForCausalLM

    select = SELECTORS[trainer]()
    answers, folder, model = [], None, None
    for job in json.loads(Path(jobs_file).read_text(encoding="utf-8")):
        if job["model"] != folder:
            folder = job["model"]
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        model.train().requires_grad_(True)
        refusal = None
        try:
            select(model, job["text"], Path(answer_file).parent)
        except ValueError as error:  # pydantic's are, too
            refusal = str(error)
        names = [name for name, _ in model.named_parameters()]
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        answers.append({"refusal": refusal, "names": names, "trained": trained})
    versions = {name: version(name) for name in (PACKAGES[trainer], *BESIDE)}
    Path(answer_file).write_text(json.dumps({"versions": versions, "answers": answers}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
