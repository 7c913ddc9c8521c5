"""Every term of the pages in a sentence or two, for those who have not read the paper."""

from semfreeze_core.cost.speed import utilization_range
from semfreeze_core.sources.data.formats import formats_text

TOOLTIPS = {
    "depth": "How many layers, counted from the input side, stay as they are. 0 trains everything; the line through "
    "all charts stands at this depth.",
    "metric": "How the distance to the truth is measured. semantic: 1 - cosine with the direction the head reads "
    "as the token (the paper's). logit_z: our variant that does not change when a norm is folded into the head.",
    "space": "A model of L layers has L + 1 hidden states of a token: 0 is the input of layer 0, L the output of the "
    "last layer.",
    "deviation": "How far a hidden state is from the target token; 0 would be on it.",
    "label null": "The random-label baseline: the deviation from tokens drawn at random among your labels.",
    "task null": "The swapped-completion control: the same prompts with other examples' completions. What does not get "
    "worse is language, not your task.",
    "advantage": "Lift over random labels: the baseline minus the deviation. It shows how much nearer the states are "
    "to their own token than to a random one.",
    "gain": "How much a layer raises the advantage. It can be negative. Gray: not measured (with a tied head space 0 "
    "predicts its own input).",
    "gain coverage": "R(k), the share of the advantage's rise that lies in layers k and above, those that stay trained "
    "when k are frozen. A prediction about finetuning, not a measurement of it.",
    "scores": "What other papers measure of each layer, as the same share. They contradict each other; only a "
    "finetune decides.",
    "law": "A formula for how lift over random labels grows with depth: flat up to a turn, then a power law of the "
    "depth. Every layer before the turning depth contributes less than the average layer. The interval is about the "
    "examples, not about the formula.",
    "picks": "The depth after the layer that brings each example nearest to its target, up to the maximum depth. Where "
    "most examples pick nearly the same depth, one depth fits them all.",
    "slices": "The same analysis for each group of examples by itself: those of one label, of one value in another "
    "column of the task file, or of similar length. A group that the rule freezes less deep than the "
    "current depth may lose by it.",
    "projection": "A joint principal component analysis of the unit-length states of all spaces and of the truths' "
    "bases, so that every space is seen in the same axes. Display only; no plan is made from it.",
    "umap": "UMAP: states that are near each other in all components are laid out near each other, those of all spaces "
    "and the truths' bases together. Who is near whom means something; axes, sizes of groups and distances between "
    "far-apart ones mean little. Display only; no plan is made from it.",
    "projection kind": "PCA: the two or three directions in which states differ most. UMAP: who is near whom in all "
    "directions; computed when asked for.",
    "umap seed": "Another seed lays the same points out anew. What is not there under another seed was chance.",
    "umap neighbors": "How many nearest points each is held together with. More make layers flow into each other and "
    "show larger patterns, at the cost of small ones.",
    "color": "label: of the example. outcome: whether the model, given the true text, says the token. deviation: "
    "how far the state is from it.",
    "paths": "Positions, spread over the sample, whose way through all spaces is drawn as a line.",
    "basis": "The direction in the last space that the head reads as a token. States that come to mean it move there.",
    "memory": "Device memory by part, from formulas: the sum of tensor sizes, without what the allocator and the "
    "runtime take on top.",
    "flop": "Floating point operations of the first training step; a multiply-add is two.",
    "time": "The finetune's compute at the rate of this run's last finetune, or at "
    f"{utilization_range()} of the peak of the GPU in the training setup.",
    "gpu": "What the time of the finetune is estimated for. Type the memory of one that is not listed: 24GiB. With the "
    "rule budget, its whole memory is the limit.",
    "frontier": "Each point is a freeze depth: right saves more, up keeps more of the predicted gain. Click one to go "
    "there.",
    "rule": "auto: a quarter of the layers, or the depth of the rule coverage where completions repeat one another; no "
    "finetune is tried (ours). coverage: as deep as half gain coverage, half plain depth allows (ours). paper: where "
    "the largest single gain is. compute: best for the same compute. turning: the scaling law's turning depth (ours). "
    "budget: no deeper than it takes to fit.",
    "wide steps": "fixed: as deep from the first step on. wide first, then deep: freeze a quarter of the layers in the "
    "first steps, and as deep as the slider says after them. Only `semfreeze train` does this.",
    "depth objective": "balanced: the depth of the rule under Options. quality: the rule auto, which freezes a quarter "
    "of the layers, or more where completions repeat one another. memory and time: the smallest depth within your "
    "limit. A finetune on the page Prove has the same objective.",
    "gpus": "Memory of common GPUs as their drivers report it. Headroom is that minus the estimated sum of the parts.",
    "estimate model": "A well-known size, or any other model by its name on the Hugging Face hub, owner/name: only its "
    "config is fetched.",
    "alternatives": "Estimated at the same number of steps, beside full finetuning in the same training setup.",
    "undecided": "Freezing a quarter is the careful choice. Freezing more is a bet that a short real finetune can "
    "settle. More examples may show what these do not.",
    "stock": "Estimate for a trainer that computes the logits of every token and caches no prefix. Off: for "
    "`semfreeze train`.",
    "prefix cache": "Compute the frozen layers once per example, keep their output, and train from it, as "
    "`semfreeze train` does.",
    "checkpointing": "Keep less and compute layers again on the way back. transformers-5 is as that library turns it "
    "on by itself, which recomputes frozen layers too.",
    "batches": "Which examples share a batch: random, or by-length (of like length), which needs less padding. An "
    "estimate takes all examples to be equally long.",
    "micro batch": "How many examples of a batch go through the model at once. Fewer take less memory; their gradients "
    "add up, so that the result is the same. A GPU may take longer.",
    "adapters": "Train low-rank adapters (LoRA) in place of the trained layers' own weights.",
    "bits": "Round the matrices of frozen layers, and those below adapters, to 8 or 4 bits. `semfreeze train` does so "
    "with adapters; without them, frozen layers keep their precision.",
    "preset": "One click sets how to train. Batch, length and epochs stay as they are, unless the preset names them.",
    "rank": "Rank of the LoRA adapters, in the plan and in the comparison.",
    "loss": "materialised keeps the logits of every token, supervised-only those of target tokens, as "
    "`semfreeze train` does; chunked computes those a few at a time and keeps none, by Liger Kernel where it is "
    "installed on a GPU; chunked-loop does without it. fused is for other trainers.",
    "precision": "float32; bf16-autocast: float32 weights, products in bfloat16; bf16: everything in bfloat16.",
    "along": "Seconds say what one waits for; steps compare what the same number of updates gives.",
    "proof depth": "What the variants planned and planned+lora freeze; at first the freeze depth of the page.",
    "test depth": "Opens the form of a validation at this depth: data, arms, steps and seeds, with the memory and time "
    "they will take. Nothing starts before you say so.",
    "trainer": "A complete configuration or script of another trainer, with what it does not support as comments.",
    "report": "Curves, controls, scores, estimated costs and plan in one HTML file that opens without network.",
    "compare": "Up to five more runs. The open one, on the left, comes first: differences are the others minus it.",
    "difference": "The other run's curve minus the open run's at the same share of the layers. Paired when both read "
    "the same examples, so that what these have in common cancels.",
    "delete run": "With all its validations, sweeps, pilots and finetuned models. You are asked first; a run that a "
    "job works in stays.",
    "arms": "Each variant is a real finetune on the same data, in the same order. planned freezes the plan's depth; "
    "LoRA trains adapters; dynamic freezes in each batch what its examples pick, after a pass over all of them; "
    "progressive freezes a quarter of the layers at first, and the plan's depth after 20 steps, "
    "or half of a shorter finetune.",
    "kept": "The loss reduction is the fall of the eval loss. At the same compute, a cheaper variant trains until "
    "it has cost as much as full finetuning.",
    "sweep": "Each point is real finetunes at one freeze depth on the same data; the dashed line is what the analysis "
    "predicted of them. Dotted lines: where rules and scores would freeze.",
    "regret": "What the best swept depth gained more than the rule's, over the best's gain; 0 is best. vs. half: "
    "that minus the regret of freezing half the layers, so below 0 the rule is better than half.",
    "pilots": "Short finetunes of a few depths, the worse half dropped after each round, all within a share of one "
    "full finetune's compute.",
    "answers": "Eval examples answered by generation: greedy, until the end of sequence. An answer is right when it is "
    "the reference but for white space. Of every variant the first seed, at its last mark.",
    "measured": "Measured in the variant's own process. A process holds more than its parts: what its allocator keeps, "
    "and the checkpoint's pages.",
    "start": "validate: the planned depth against full finetuning, half and LoRA. quick look: against full finetuning "
    "alone, once. sweep: several depths, and what every rule would have cost. pilots: short finetunes of a few depths "
    "choose one (the rule measured). finetune: one job that chooses what to train and gives you the trained model.",
    "decided": "How many layers are frozen. by the finetune: a short race of depths decides where the finetune is long "
    "enough, else checks of your examples. as on Decide: the depth that stands there.",
    "judged": "Eval examples choose the learning rate, the variant and the checkpoint. held out: a share of the "
    "training rows, none of whose prompts stays in training.",
    "objective": "balanced: the cheapest variant close to the best one's loss reduction. quality: the lowest loss. "
    "memory and time: the lowest loss within a limit.",
    "finetune steps": "Optimizer steps. 0: as many as the epochs of the training setup take.",
    "output": "The finetuned model is kept in the run under this name.",
    "finetunes": "Models finetuned from this page. The eval examples chose them, so their loss is optimistic: keep "
    "others aside for a final judgment.",
    "racing": "Every variant trains its first steps at several learning rates, on the same examples in the same order. "
    "A rate that is clearly behind stops early.",
    "resume": "Starts the same finetunes again; those that are finished are kept, and the others resume.",
    "jobs": "Each runs by itself when you close this page; one at a time, in the order they were started.",
    "model kind": "bundled: SmolLM2, 135 million parameters, comes with semfreeze. Others are read from this machine "
    "or fetched from the Hugging Face hub; safetensors only, and no code that comes with a model is run.",
    "data kind": f"One example per row, as {formats_text()}. An upload is kept beside the runs, under a name "
    "made of its content.",
    "upload": "Kept beside the runs on the machine of this server. Larger files: give their path.",
    "share": "A link to what is on the screen.",
    "usable rows": "Rows with a prompt and a completion that can be trained on. The others are skipped, with a reason.",
    "tokens per example": "Prompt and completion together. Half of the examples are at most this long.",
    "target tokens per example": "The completion's tokens, which finetuning makes more likely. Half of the examples "
    "have at most this many.",
    "cut": "Examples longer than the limit lose the start of their prompt. Those whose completion alone is longer are "
    "left out.",
    "shared prompts": "Eval examples whose prompt is among these rows too: their losses show memory. They are those of "
    "the newest finetune on the page Prove. Rows that semfreeze holds out itself share no prompt with training.",
    "fields": "Which columns are prompt and completion, chat messages, or plain text. Nothing is guessed that could be "
    "read another way.",
    "label": "A column with the class of each row, if there is one: examples are drawn by it, and charts color by it.",
    "template": "The prompt made of columns, their names in braces; \\n is a line break. {name?} may be "
    "empty: its line break is left out then.",
    "examples": "Drawn with seed 0, by label where there are labels; 0 reads all. 256 are enough for most intervals.",
    "device": "auto takes a GPU when there is one.",
    "dtype": "auto: bfloat16 on a GPU, and on processors that compute it when it agrees with float32 on a probe.",
    "supervised": "Only these tokens are predicted in finetuning, so only their states are read.",
    "optimizer": "adamw keeps two numbers per trained parameter, adamw8bit two bytes, sgd none.",
}
