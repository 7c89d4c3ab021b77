"""Write a small log by the real litellm: its callbacks, asked with made-up answers, offline.

    python make_litellm.py litellm.jsonl

It needs litellm. The one call that fails and the one an embedding asks for are in it as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

CASES = [
    ("t-1", "en", "Where is my parcel?", "track", None),
    ("t-2", "en", "I want my money back.", "refund", None),
    ("t-3", "pt", "Onde está a minha encomenda?", "refund", "track"),
    ("t-4", "de", "Bitte kündigen Sie mein Abo.", "cancel", None),
    ("t-5", "pt", "Quero cancelar.", "cancel", "cancel"),
]


def main(target):
    import litellm
    from litellm.integrations.custom_logger import CustomLogger

    seen = []

    class Keep(CustomLogger):
        def log_success_event(self, kwargs, *_):
            seen.append(kwargs["standard_logging_object"])

        def log_failure_event(self, kwargs, *_):
            seen.append(kwargs["standard_logging_object"])

    litellm.callbacks = [Keep()]

    def ask(model, trace, language, question, answer):
        before = len(seen)
        metadata = {"requester_metadata": {"language": language}, "spend_logs_metadata": {"language": language}}
        with contextlib.suppress(litellm.Timeout):
            litellm.completion(
                model=model, messages=[{"role": "user", "content": question}], api_key="none", num_retries=0,
                mock_response=answer, metadata=metadata, litellm_trace_id=trace,
            )  # fmt: skip
        for _ in range(100):
            if len(seen) > before:
                break
            time.sleep(0.05)

    for trace, language, question, cheap, flagship in CASES:
        ask("gpt-4.1-nano", trace, language, question, cheap)
        if flagship is not None:
            if trace == "t-5":
                ask(
                    "gpt-4.1",
                    trace,
                    language,
                    question,
                    litellm.Timeout("slow", model="gpt-4.1", llm_provider="openai"),
                )
            ask("gpt-4.1", trace, language, question, flagship)
    for each in seen:
        # The price list of the model, which makes up most of a payload.
        each.pop("model_map_information", None)
    text = "".join(json.dumps(each, default=str, ensure_ascii=False) + "\n" for each in seen)
    # Tracebacks name the folder the library was installed in.
    Path(target).write_text(re.sub(r"(/[\w.\-/]+)?/lib/python3\.\d+/(site-packages/)?", "", text), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
