"""Every default and threshold that a person can meet, each named once; imports nothing heavy.

Flags, forms, the Python API, help texts and documents take their values from here. A bound that protects only an
algorithm (a tolerance, a chunk size) stays beside that algorithm. docs/configuration.md is made from this file: the
first comment after an empty line is the title of what follows, and every constant has a comment above or beside it.
"""

from typing import Literal

# Intervals and verdicts
# Level of every two-sided interval that is shown, and of the one-sided test of a verdict. Plans and reports on disk
# keep the ends they were made with and are labeled with this level: after a change make the example run anew.
CONFIDENCE = 0.95
BOOTSTRAP_REPLICATES = 1000  # over examples, behind every interval of an analysis
MARGIN = 0.05  # share of full finetuning's loss reduction that a plan may lose and still pass
MIN_SEEDS = 3  # with fewer a verdict is inconclusive (`--seeds`)

# Choosing a depth
# The rule that chooses where nothing names one (`--rule`). Freezing as deep as the coverage rule alone says lost much
# on some of the tasks that were measured at searched rates.
RULE: Literal["auto"] = "auto"
TAU = 0.65  # least score of the coverage rule (`--tau`)
COVERAGE_WEIGHT = 0.5  # of R(k) in that score; the rest goes to the share of trained layers
SCORE_PERCENTILE = 10  # of the score over bootstrap replicates that has to reach tau
PICK_PERCENTILES = (5, 95)  # of a rule's depth over bootstrap replicates: the range shown and judged; not CONFIDENCE
MIN_R_SQUARED = 0.85  # of the isotonic fit; below it the curve does not measure progress
MIN_LAW_R_SQUARED = 0.8  # of the scaling law; below it none is drawn and the turning rule makes no recommendation
FEW_EXAMPLES = 200  # a plan of fewer warns
DATA_MULTIPLES = (1, 10, 100)  # M of the compute rule: the data of the finetune over that of pretraining's transfer
DATA_MULTIPLE = 10  # the one that decides
MIN_SLICE = 16  # examples of a group that is shown on its own
MAX_SLICES = 12  # groups shown, largest first

# The rule auto and `semfreeze finetune`
# Finetunes of fewer steps are not worth a race. This and the other thresholds here were chosen on the tasks they were
# measured on, eight tasks at fixed learning rates and one model of 135M parameters (docs/evidence.md says more):
# expect them to do worse on new tasks.
MIN_RACED_STEPS = 150
# Of eval completions by training completions; below it a quarter of the layers is frozen. Between 0.47 and 0.95 no task
# was measured at searched rates (five tasks, one seed).
LEAST_BIGRAM_COVERAGE = 0.7
BIGRAM_COMPLETIONS = 80  # training completions that coverage is measured with
MIN_CHECKED_COMPLETIONS = 16  # eval completions of a coverage
MIN_ANSWER_TAG = 0.8  # share of prompts that end in the same two tokens; below it prompts have no answer tag
# Share of the tasks measured at searched rates on which the deeper variant of a race won it, replayed; a race is made
# where it likely costs less than this share of what the deeper variant saves.
RACE_WINS = 0.4
RACE_STEPS = 20  # after which variants, and each variant's learning rates, are compared
RACE_ROWS = (64, 128)  # eval examples of a race, least and most
RACE_READINGS = 0.015  # share of full finetuning's compute that evaluations of a race may take beyond the least
RACE_CONFIDENCE = 0.9  # one-sided, of a comparison in a race
HELD_OUT_DATA = "held-out"  # in the place of eval data: rows of the training data
HELD_OUT = 0.2  # share of the rows held out where no eval examples are given (`--eval`)
HELD_OUT_ROWS = (16, 512)  # rows held out, least and most

# Analysis
EXAMPLES = 256  # examples drawn (`--examples`)
POSITIONS = 64  # target tokens analyzed per example, at most (`--positions`)
DISPLAY_POSITIONS = 1000  # target tokens whose hidden states a run keeps for the dashboard
MIN_EXAMPLES = 32  # an analysis of fewer needs `--allow-few`
MAX_DISPLAY_POSITIONS = 2000  # more are refused
MAX_LENGTH = 2048  # tokens per example, where neither the model nor `--max-length` says less
NULL_PAIRS = 64  # prompts whose completions are swapped
LARGEST_SEED = 2**32 - 1  # what numpy, scikit-learn and torch all take (`--seed`)

# Training
BATCH_SIZE = 8  # examples per step (`--batch-size`)
SEQUENCE_LENGTH = 512  # tokens per example of an estimate (`--sequence-length`), or the model's limit
EPOCHS = 3  # passes over the training examples (`--epochs`)
TRAIN_EXAMPLES = 1000  # assumed by an estimate without data
PRECISION: Literal["float32"] = "float32"  # where there is no GPU that multiplies bfloat16 (`--precision`)
GPU_PRECISION: Literal["bf16-autocast"] = "bf16-autocast"  # on GPUs that multiply bfloat16
# Rates where none is searched and none given (`--lr`). Chosen on sample:support_intents_train with the bundled model
# (tests/benchmarks/learning_rates.md), a task that no claim is made on. A frozen depth hardly minds between 1e-4 and
# 1e-3; it takes full finetuning's rate, as cheaper variants go over the data more often.
LEARNING_RATES = {"full": 3e-4, "frozen": 3e-4, "lora": 1e-3}
# Rates that the search of `--lr auto` may try. They are compared on CURVE_EXAMPLES eval examples after RATE_STEPS, or a
# third of a shorter training.
RATE_GRID = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
RATE_STEPS = 20  # steps after which rates are compared
MIN_RATE_STEPS = 2  # a training in which fewer can be compared has no search
MIN_RATE_EXAMPLES = 16  # to compare rates on; with fewer eval examples `semfreeze train` takes its batches
RATE_TRIALS = 5  # of one variant; as many for each, so that all have the same search
RATE_AT_WIDTH = (1e-4, 576)  # the guess, a rate at a width, from which a search begins; ours
RATE_FACTORS = {"full": 1.0, "frozen": 1.0, "lora": 3.0}  # times that guess
# Shares of a GPU's peak rate that finetunes reach, lowest and highest; the range of an estimated time. Published
# trainings over many GPUs report 30% to 46% (PaLM, arXiv 2204.02311, table 3) and 38% to 43% (Llama 3, arXiv
# 2407.21783, table 4); models of 125M to 70B on 8 to 128 GPUs reached 26% to 47% of H100s and 36% to 64% of A100s in
# bfloat16 (github.com/mosaicml/llm-foundry, scripts/train/benchmarking). The two ends are our rule of thumb: one GPU
# waits for no other, and small models and short examples may stay below.
UTILIZATION = (0.30, 0.55)
# Seconds from the end of one checkpoint to the next (`--save-steps` names steps instead). One of 3 billion trained
# parameters has 39 GB, which takes a disk 20 to 40 seconds: at most 7% of the time.
CHECKPOINT_SECONDS = 600
BEST_EVALUATIONS = 10  # of a training that ends with the weights whose eval loss was lowest (`--keep-best`)
# Share of the steps of a short finetune in which the rate rises; it is constant after it. Short finetunes warm up for
# longer than whole trainings and exports.
WARMUP_FRACTION = 0.1
TRAINING_WARMUP_FRACTION = 0.05  # the same of whole trainings and exports
LORA_RANK = 16  # of adapters (`--lora-rank`)
LORA_SCALE = 2  # alpha / rank

# Validation, sweeps and pilots
# Variants of a validation (`--arms`). Names with "lora" train adapters; those that begin with "planned" take what the
# plan recommends.
VARIANTS = ("full", "planned", "half", "lora", "planned+lora")
PROGRESSIVE = "progressive"  # the variant that freezes deeper after some steps
DYNAMIC = "dynamic"  # the variant whose every batch has a depth of its own
# Variants that are trained only where somebody names them.
FURTHER_VARIANTS = (DYNAMIC, "depth:K", "layers:A-B,C-D", PROGRESSIVE, f"{PROGRESSIVE}:W-K@N")
# Of the variant progressive: the first steps, which freeze a quarter of the layers; at most half of all.
# On SmolLM2-135M it kept 82% to 100% of full finetuning's loss reduction in the same 40 steps, at 60% to 70% of the
# compute (five tasks, one seed, fixed rates, by a script that is not kept here).
WIDE_STEPS = 20
LOOK_STEPS = 10  # of each of the two short trainings that decide whether a finetune freezes deeper where it is
STEPS = 60  # of a variant (`--steps`)
TRAIN_ROWS = 480  # training examples of a comparison (`--train-examples`)
EVAL_ROWS = 200  # eval examples of a comparison (`--eval-examples`)
ACCURACY_ROWS = 100  # eval examples answered by generation (`--accuracy-examples`)
SEEDS = 1  # of order and adapters (`--seeds`)
RUNNER = "processes"  # who trains the variants of a comparison (`--runner`)
CURVE_EXAMPLES = 64  # of the evaluations between the marks, which draw the curve and decide nothing
SHOWN_ANSWERS = 24  # kept as text
MANY_EPOCHS = 4  # over the training examples; in a sweep on 82 of them losses rose again well before
PILOT_BUDGET = 0.15  # share of one full finetune's FLOPs that pilots may take (`--pilot-budget`)
PADDING_WORTH_SAVING = 0.15  # share of the tokens that batches of like length save; from it on a training names them
PILOT_STEPS = 8  # least steps of a pilot
PILOT_DEPTHS = 4  # most depths that pilots compare
PILOT_EVAL_ROWS = (64, 1024)  # eval examples of pilots, least and most
MIN_FINETUNES = 3  # fewer do not calibrate estimates
