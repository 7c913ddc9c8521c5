"""Labels and sentences of guided finetunes; what they do, cost and gave is said by semfreeze_core.wording."""

INTRODUCTION = (
    "One job from model and examples to a finetuned model: it analyzes the examples, compares variants in a short "
    "race, each at its own learning rate, and trains the best one to the end."
)
FORECAST = (
    "Estimated at this run's example lengths. Before it trains, the job reports it again for its own examples, with "
    "the time."
)
UNFETCHED_FORECAST = (
    "Estimated at this run's example lengths, for {examples}, as the dataset is not fetched yet. Before it trains, the "
    "job reports it again for its own examples, with the time."
)
WHOLE_LAYERS = "It trains whole layers: the adapters of the training setup do not count here."
EXAMPLE_RUN = "The bundled run is read-only. Analyze a model on the page Data to finetune it."
TAKEN = "A finished finetune named {name} already exists. Choose another name."
JOINED = "The same finetune already runs; its model will be {name}."
STARTING = "The finetune is starting: semfreeze prepares the data and loads the model."
STOPPED = "This finetune stopped before its end. Resume its job, or start the same finetune under the same name."
MODEL_HERE = "The model is in {folder}."
MODEL_ON_SERVER = "The model is kept on the server under the name {name}. Ask whoever runs the server for it."
SAME_ELSEWHERE = "The same on the command line, and in Python:"
RACING_TITLE = "The race so far"
RACING_CAPTION = (
    "Every variant trains on the same batches in the same order. Faint with a cross: stopped or not chosen."
)
