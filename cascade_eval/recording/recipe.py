"""Recipes from YAML: whom to ask, what and how; every problem of a file at once, each with its line."""

from __future__ import annotations

import json
import string
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, PlainValidator, ValidationError, model_validator

from cascade_eval import prices, scrubbing
from cascade_eval.errors import Problem, SuiteError, did_you_mean
from cascade_eval.recording.nouns import Model, Recipe
from cascade_eval.suite import files, mappings, phrases, text
from cascade_eval.suite.mappings import Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from cascade_eval.suite.text import Lines

FREE: Final = {"input": 0, "output": 0}

_OURS: Final = frozenset(
    {
        "model", "messages", "system", "stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens",
        "audio", "fallbacks", "mcp_servers", "modalities", "models", "plugins", "web_search_options",
    }
)  # fmt: skip
"""Fields of a request that decide what it costs or how it is read, and therefore are not `extra`."""
_RATED: Final = frozenset({"inference_geo", "service_tier", "speed"})
"""Fields that decide what a token costs: whoever sends them says the price."""


class WrittenJudge(Written):
    """Whose answers are graded, and how the grade is read."""

    noun: ClassVar[str] = "'judges'"
    example: ClassVar[str] = "{of: mini}"

    of: str
    score: bool = False


class WrittenModel(Written):
    """A model to ask."""

    noun: ClassVar[str] = "a model"
    example: ClassVar[str] = "{client: openai, model: gpt-4.1-mini, prompt: '{input}'}"

    client: Literal["openai", "anthropic"] = "openai"
    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    prompt: str | None = None
    prompt_file: str | None = None
    system: str | None = None
    max_output_tokens: int = 1024
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    logprobs: bool | int = False
    samples: int = 0
    timeout: Annotated[float, PlainValidator(phrases.read_seconds)] = 60.0
    concurrency: int = 4
    attempts: int = 6
    stream: bool = False
    price: Any = None
    judges: WrittenJudge | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sensible(self) -> WrittenModel:
        for name, least, most in (
            ("max_output_tokens", 1, 1_000_000),
            ("samples", 0, 1000),
            ("concurrency", 1, 1000),
            ("attempts", 1, 100),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"'{name}' is from {least:,} to {most:,}, not {getattr(self, name):,}.")
        if self.prompt is not None and self.prompt_file is not None:
            raise ValueError("a model has either 'prompt' or 'prompt_file', not both.")
        if self.samples and not self.temperature:
            raise ValueError("samples of one question differ only at a temperature above 0. Write temperature: 0.7.")
        if not isinstance(self.logprobs, bool) and not 0 <= self.logprobs <= 20:
            raise ValueError(f"'logprobs' is true, or from 0 to 20 alternatives, not {self.logprobs}.")
        if self.client == "anthropic" and self.logprobs is not False:
            raise ValueError("Anthropic's interface offers no log-probabilities. Remove 'logprobs'.")
        if self.client == "anthropic" and self.seed is not None:
            raise ValueError("Anthropic's interface takes no seed. Remove 'seed'.")
        self._check_extra()
        self._check_url()
        return self

    def _check_extra(self) -> None:
        ours = sorted(_OURS & self.extra.keys())
        if ours:
            raise ValueError(f"'{ours[0]}' cannot stand in 'extra': it decides what a call costs, or how it is read.")
        try:
            written = json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"'extra' holds what no request can: {error}. Write it as text, in quotes.") from None
        if '"cache_control"' in written:
            raise ValueError("'cache_control' cannot stand in 'extra': writing a cache costs more than the list price.")
        rated = sorted(_RATED & self.extra.keys())
        if rated and self.price is None:
            raise ValueError(
                f"'{rated[0]}' decides what a token costs. Say it: price: {{input: $0.10, output: $0.40}}."
            )
        self._check_tools()

    def _check_tools(self) -> None:
        """Refuse tools that a provider runs itself, and charges for beside the tokens."""
        tools = self.extra.get("tools") or []
        kinds = [tool.get("type") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else [None]
        allowed = {"function", "custom", *([None] if self.client == "anthropic" else [])}
        foreign = [kind for kind in kinds if kind not in allowed]
        if foreign:
            raise ValueError(
                f"a tool of type {phrases.show(foreign[0])} costs more than its tokens. Allowed: function, custom."
            )

    def _check_url(self) -> None:
        if self.base_url is None:
            return
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"{phrases.show(self.base_url)} is not an address. Write 'http://localhost:8080/v1'.")
        if "@" in urllib.parse.urlsplit(self.base_url).netloc or scrubbing.url(self.base_url) != self.base_url:
            raise ValueError("the address holds a key or a password. Keys come from the environment: 'api_key_env'.")
        if "?" in self.base_url or "#" in self.base_url:
            raise ValueError(
                "an address ends with its path: the clients put what they ask for behind it. Remove '?' and '#'."
            )

    def model_noun(self, name: str, prompt: str | None) -> Model:
        """Return the model this says."""
        judged = self.judges
        return Model(
            name=name,
            client=self.client,
            model=self.model,
            base_url=self.base_url,
            api_key_env=self.api_key_env,
            prompt=prompt or self.prompt or "{input}",
            system=self.system,
            max_output_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            logprobs=None if self.logprobs is False else int(self.logprobs) if self.logprobs is not True else 0,
            samples=self.samples,
            timeout=self.timeout,
            concurrency=self.concurrency,
            attempts=self.attempts,
            stream=self.stream,
            price=FREE if self.price == "free" else self.price,
            judges=None if judged is None else judged.of,
            scored=judged is not None and judged.score,
            extra=self.extra,
        )


class WrittenRecipe(Written):
    """The top of a recipe."""

    noun: ClassVar[str] = "a recipe"
    example: ClassVar[str] = "{cases: cases.jsonl, output: recorded, models: {…}}"

    cases: str | None = None
    output: str | None = None
    models: dict[str, Any] = Field(default_factory=dict)


def load(path: str | Path) -> Recipe:
    """Read a recipe from a file.

    Parameters
    ----------
    path
        The recipe; paths in it are relative to its folder.

    Raises
    ------
    SuiteError
        With every problem, each with file and line.
    """
    path = Path(path)
    shown = path.as_posix()
    try:
        written = files.read(path, shown)
    except FileNotFoundError as error:
        raise SuiteError([Problem(f"there is no such file.{error}", shown)]) from None
    return parse(written, file=shown, base=path.parent)


def parse(written: str, *, file: str = "recipe", base: str | Path = ".") -> Recipe:
    r"""Read a recipe from its text.

    Parameters
    ----------
    written
        YAML.
    file
        How messages name it.
    base
        Folder that paths in it are relative to.

    Raises
    ------
    SuiteError
        With every problem, each with file and line.

    Examples
    --------
    >>> recipe = parse("cases: cases.jsonl\nmodels:\n  mini: {model: gpt-4.1-mini, timeout: 20s}\n")
    >>> recipe.models[0].timeout, recipe.models[0].prompt
    (20.0, '{input}')
    """
    document = text.read(written, file=file, as_text=lambda path: path[-1:] in {("api_key_env",), ("prompt",)})
    if not isinstance(document.value, dict):
        raise SuiteError([document.lines.problem("a recipe is a mapping with 'models:'.")])
    problems: list[Problem] = []
    if scrubbing.scrub(written) != written:
        # Which line is said, the key is not.
        problems += [
            Problem(
                "a key stands here. Keys come from the environment: name the variable, 'api_key_env'.", file, number
            )
            for number, line in enumerate(written.splitlines(), 1)
            if scrubbing.scrub(line) != line
        ]
    try:
        top = WrittenRecipe.model_validate(document.value)
    except ValidationError as error:
        raise SuiteError([*problems, *mappings.problems(error, document.value, document.lines, "a recipe")]) from None
    read_file = files.beside(Path(base), file)
    found = [_model(name, value, document.lines, read_file, problems) for name, value in top.models.items()]
    if not top.models:
        problems.append(document.lines.problem("a recipe needs 'models': whom to ask."))
    models = tuple(model for model in found if model is not None)
    problems += _judges(models, document.lines)
    if problems:
        ordered = sorted(problems, key=_line)
        raise SuiteError(ordered)
    return Recipe(file, Path(base), models, top.cases, top.output, document.lines)


def _line(problem: Problem) -> int:
    return problem.line or 0


def _model(
    name: str, value: Any, lines: Lines, read_file: Callable[[str], str], problems: list[Problem]
) -> Model | None:
    here = lines.within("models", name)
    try:
        written = WrittenModel.model_validate(value)
    except ValidationError as error:
        # At the top of a mapping pydantic names no line: the model's own is the nearest.
        problems += [
            problem if problem.line else lines.problem(problem.message, "models", name)
            for problem in mappings.problems(error, value, here, "a model")
        ]
        return None
    if written.price is not None and written.price != "free":
        said = prices.check({name: written.price})
        problems += [lines.problem(message, "models", name, "price") for message in said]
    prompt = None
    if written.prompt_file is not None:
        try:
            prompt = read_file(written.prompt_file)
        except FileNotFoundError as error:
            message = f"prompt_file: there is no such file.{error}"
            problems.append(lines.problem(message, "models", name, "prompt_file"))
    if "/" in name or not name.strip(string.whitespace):
        problems.append(lines.problem(f"{phrases.show(name)} cannot name a model.", "models", name))
    return written.model_noun(name, prompt)


def _judges(models: tuple[Model, ...], lines: Lines) -> list[Problem]:
    """Refuse judges that would wait for one another."""
    by_name = {model.name: model for model in models}
    problems = []
    for model in models:
        seen, judged = {model.name}, model.judges
        while judged is not None and judged not in seen:
            seen.add(judged)
            judged = by_name[judged].judges if judged in by_name else None
        if judged is not None:
            problems.append(lines.problem(f"'{model.name}' would judge itself.", "models", model.name, "judges"))
    return problems


def unknown_column(column: str, allowed: list[str]) -> str:
    """Say that a prompt names a column no case has."""
    return f"the prompt names '{{{column}}}', and the cases have no such column.{did_you_mean(column, allowed)}"
