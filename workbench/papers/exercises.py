"""Checks a reader's answer to an exercise and says, without a traceback, whether it holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


class Reply:
    """What the reader sees: `status` is 'open', 'wrong' or 'right'."""

    def __init__(self, status: str, message: str):
        self.status, self.message = status, message

    def __repr__(self) -> str:
        return self.message


class WrongAnswer(AssertionError):
    """Raised instead of a reply while a notebook is graded: a grader sees errors only."""


class NotAnswered(WrongAnswer):
    """The answer is still the dots."""


def check_answer(answer: Any, test: Callable[[Any], None]) -> Reply:
    """Run `test(answer)`; an AssertionError, or any other error of the reader's code, becomes advice.

    Args:
        answer: the reader's function or value; `...` (as the notebook is delivered) means not answered yet.
        test: raises AssertionError with a helpful message when the answer is wrong.

    Raises:
        WrongAnswer: nbgrader or `workbench check` runs the notebook (they set NBGRADER_EXECUTION) and the answer is not right.

    Example:
        >>> def is_even(x): assert x % 2 == 0, "an even number is wanted"
        >>> check_answer(..., is_even), check_answer(3, is_even), check_answer(4, is_even)
        (Not answered yet: replace the dots above and run both cells., Not yet: an even number is wanted, Right.)
    """
    reply = _reply(answer, test)
    if reply.status != "right" and os.environ.get("NBGRADER_EXECUTION"):
        raise (NotAnswered if reply.status == "open" else WrongAnswer)(reply.message.removeprefix("Not yet: "))
    return reply


def _reply(answer: Any, test: Callable[[Any], None]) -> Reply:
    if answer is ...:
        return Reply("open", "Not answered yet: replace the dots above and run both cells.")
    try:
        test(answer)
    except AssertionError as error:
        return Reply("wrong", f"Not yet: {str(error) or 'the result differs from what is wanted'}")
    except Exception as error:
        return Reply("wrong", f"Not yet: your code raised {type(error).__name__}: {error}")
    return Reply("right", "Right.")
