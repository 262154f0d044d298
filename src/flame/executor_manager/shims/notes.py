"""What a client said of a single task, as services outside of this process are told: in JSON, or as variables.

Most tasks have nothing said of them; then nothing of this is on any wire, in any environment.
"""

import json

from flame.model.service import TaskContext


def said_of(context: TaskContext) -> dict[str, object]:
    """Return the labels and places that a task has, by the names that frames give them."""
    said: dict[str, object] = {}
    if context.labels:
        said["labels"] = dict(context.labels)
    if context.input_path is not None:
        said["input_path"] = context.input_path
    if context.output_path is not None:
        said["output_path"] = context.output_path
    return said


def variables_of(context: TaskContext) -> dict[str, str]:
    """Return what a process (or an instance) that does only this task finds in its environment."""
    variables = {"FLAME_TASK_ID": str(context.task_id)}
    if context.labels:
        variables["FLAME_TASK_LABELS"] = labels_of(context)
    if context.input_path is not None:
        variables["FLAME_INPUT_PATH"] = context.input_path
    if context.output_path is not None:
        variables["FLAME_OUTPUT_PATH"] = context.output_path
    return variables


def labels_of(context: TaskContext) -> str:
    """Return a task's labels as one JSON object, in ASCII."""
    return json.dumps(dict(context.labels), separators=(",", ":"))


def word_of(context: TaskContext) -> str:
    """Return all that was said as JSON without a blank or a line's end; empty: nothing was said."""
    said = said_of(context)
    return json.dumps(said, separators=(",", ":")).replace(" ", "\\u0020") if said else ""
