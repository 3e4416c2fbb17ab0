"""A verb called in this process, as a shell would call it: what it printed, and how it ended."""

import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO

from ropewalk.recipes.cli import VERBS, command


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The exit code is 1 where an exception came through."""

    exit_code: int
    stdout: str
    stderr: str
    exception: BaseException | None = None

    @property
    def output(self) -> str:
        """All that was printed, and the traceback of what came through."""
        through = self.exception and traceback.format_exception(self.exception)
        return self.stdout + self.stderr + "".join(through or ())


def run_verb(*arguments: object) -> Ended:
    """Run `ropewalk ARGUMENTS`."""
    code, exception, out, err = 0, None, StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command("ropewalk", VERBS).main([str(one) for one in arguments], prog_name="ropewalk")
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception as error:
            code, exception = 1, error
    return Ended(exit_code=code, stdout=out.getvalue(), stderr=err.getvalue(), exception=exception)
