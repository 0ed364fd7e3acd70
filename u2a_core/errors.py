"""The sentences a user may meet: one exception tree, no dependency.

Every message has the form *subject* must *expected*; got *value*. *What to do.* The command line
prints it as it stands and exits with the class's `exit_code`.
"""


class U2AError(Exception):
    """Something the user can put right; the message says how."""

    exit_code = 2


class DataError(U2AError):
    """A data file, or a record in one, cannot be used as it is."""


class ConfigError(U2AError):
    """A setting is outside its range, or two settings contradict each other."""


class ModelError(U2AError):
    """A model, tokenizer or reward function cannot be loaded or used."""


class TokenError(ModelError):
    """A model of the hub is shown to those only who are logged in with a token."""


class AccessError(ModelError):
    """A model of the hub whose terms must be accepted first, at its page, which the text names."""


class MemoryShortageError(ModelError):
    """A job needs more memory than there is."""


class RunError(U2AError):
    """A run directory cannot be read, written or resumed."""


class NumericalError(U2AError):
    """A computation has no trustworthy result: not finite, collapsed, or not converged."""

    exit_code = 3
