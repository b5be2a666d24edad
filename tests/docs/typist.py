"""Runs programs one after the other in one namespace, as a reader would type them in.

The tests start it as a separate process. It takes {"programs": [...]} on stdin and prints what
each program printed. If a program has a top-level await, all programs that start no event loop run
in one loop. Otherwise there is no loop.
"""

import ast
import asyncio
import contextlib
import inspect
import io
import json
import sys
import traceback
from types import CodeType
from typing import Any


def _compiled(number: int, program: str) -> CodeType:
    return compile(program, f"program {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def main() -> None:
    programs: list[str] = json.load(sys.stdin)["programs"]
    codes = [_compiled(number, program) for number, program in enumerate(programs, 1)]
    is_async = any(code.co_flags & inspect.CO_COROUTINE for code in codes)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: list[list[str]] = []
    with asyncio.Runner() as runner:

        async def within(code: CodeType) -> None:
            made = eval(code, names)  # noqa: S307
            if inspect.isawaitable(made):
                await made

        for number, (program, code) in enumerate(zip(programs, codes, strict=True), 1):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                try:
                    if is_async and "asyncio.run(" not in program:
                        runner.run(within(code))
                    else:
                        exec(code, names)  # noqa: S102
                except BaseException:
                    sys.stderr.write(f"program {number}:\n{program}\n{traceback.format_exc()}\n")
                    sys.exit(1)
            printed.append(out.getvalue().splitlines())
    json.dump({"printed": printed}, sys.stdout)


if __name__ == "__main__":
    main()
