"""Define the errors and outcomes that end a command: one line each, with an exit code.

    StillhouseError                 something is wrong; one line on stderr, exit code 2
    ├── PlanError                   the plan file cannot be used; .faults lists them all
    ├── PartError                   code of a user's file or of an installed package raised an error
    ├── RecipeError                 a recipe's code fails on every seed, or asks otherwise than before
    ├── UsageError                  options of a command are wrong or do not go together
    ├── AssetError                  a model or data set could not be downloaded, or its hash differs
    ├── WarehouseError              the store cannot be opened, or a newer version wrote it
    │   └── RecordRefused           a value of a record cannot be stored; the others can
    ├── DataError                   a user's data file is malformed (names the line)
    ├── NothingToDoError            a stage has no input: no prompts, samples, rows or items
    ├── NotFoundError               a student, run, report or warehouse is not there
    ├── MissingExtraError           an optional package is not installed, or not as it was tested
    ├── ModelError                  a model cannot be used this way: layers, template, context, size
    ├── TrainingError               training was refused or failed
    ├── ExportError                 a student cannot be exported in this form, or failed its check
    ├── ServerError                 Prefect's server did not start, or does not answer
    └── TeacherError
        ├── TransientError          worth another try: 429, 5xx, resets, timeouts
        │   └── TooExpensive        one request could cost more than the whole budget
        ├── PromptRejected          final for one prompt: too long, filtered, 400
        └── TeacherUnusable         final for all: 401, 403, unknown model, nobody answers

    Outcome                         nothing is wrong; one line on stderr, an exit code of its own
    ├── NotShipped                  done, but a condition of [ship] is not met; exit code 4
    ├── Skipped                     another run uses the warehouse, and this one is left out; exit code 0
    └── Stopped                     stopped on purpose; exit code 3, .resume is the command
        └── BudgetReached           the next request could exceed the plan's budget

Every class can be pickled, since Prefect carries errors between processes.
"""


class StillhouseError(Exception):
    """A foreseen error: one line, no traceback."""

    exit_code = 2


class PlanError(StillhouseError):
    """The plan file cannot be used."""

    def __init__(self, message: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(message, faults)
        self.message = message
        self.faults = faults

    def __str__(self) -> str:
        return "\n  - ".join((self.message, *self.faults))


class PartError(StillhouseError):
    """Code of a part from a user's file or from an installed package raised an error."""


class RecipeError(StillhouseError):
    """A recipe's code fails on every seed, or asks otherwise than it did before."""


class AssetError(StillhouseError):
    """A model or data set could not be downloaded, or is not the file it should be."""


class WarehouseError(StillhouseError):
    """The warehouse cannot be opened or written."""


class RecordRefused(WarehouseError):
    """A value of a record cannot be stored: half a character, a number out of range."""


class DataError(StillhouseError):
    """A data file of the user is malformed."""


class UsageError(StillhouseError):
    """Options of a command are wrong or do not go together."""


class NothingToDoError(StillhouseError):
    """A stage has no input: no prompts, samples, rows or items."""


class NotFoundError(StillhouseError):
    """A student, run, report or warehouse is not there."""


class MissingExtraError(StillhouseError):
    """An optional package is not installed, or not as it was tested."""


class ModelError(StillhouseError):
    """A model cannot be used this way: its layers, template, vocabulary, context or size."""


class TrainingError(StillhouseError):
    """Training was refused or failed."""


class ExportError(StillhouseError):
    """A student cannot be exported in this form, or failed its check."""


class ServerError(StillhouseError):
    """Prefect's server did not start, or does not answer."""


class TeacherError(StillhouseError):
    """The teacher did not answer as hoped."""

    is_charged = False
    """Whether the request may have been charged for all the same."""


class TransientError(TeacherError):
    """Worth another try."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class TooExpensive(TransientError):
    """One request could cost more than the whole budget; it is set aside, the others go on."""


class PromptRejected(TeacherError):
    """Final for one prompt; the others go on."""


class TeacherUnusable(TeacherError):
    """Final for every prompt; stop at once."""


class Outcome(Exception):
    """An end that is no error: one line, an exit code of its own."""

    exit_code: int


class NotShipped(Outcome):
    """The run is done and kept; its student does not meet the plan's conditions."""

    exit_code = 4


class Skipped(Outcome):
    """Another run uses the warehouse, and the schedule says that this one is left out."""

    exit_code = 0


class Stopped(Outcome):
    """Stopped on purpose; nothing is lost."""

    exit_code = 3

    def __init__(self, message: str, resume: str = "") -> None:
        super().__init__(message, resume)
        self.message = message
        self.resume = resume

    def __str__(self) -> str:
        return f"{self.message}; resume with: {self.resume}" if self.resume else self.message


class BudgetReached(Stopped):
    """The next request could exceed the budget; all that was in flight is kept."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
