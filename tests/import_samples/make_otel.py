"""Write a small log of spans by the real OpenTelemetry SDK and its instrumentations, against a made-up endpoint.

    python make_otel.py current otel_current.jsonl            names of today, prompts on the span
    python make_otel.py v136 otel_v136.jsonl                  names up to v1.36, prompts as events (SDK 1.36 and
                                                              opentelemetry-instrumentation-openai-v2 2.1b0)
    python make_otel.py openinference openinference.jsonl

It needs opentelemetry-sdk, opentelemetry-exporter-otlp-json-common (opentelemetry-exporter-otlp-proto-common for the
older SDK), openai, and one of opentelemetry-instrumentation-openai-v2 and openinference-instrumentation-openai. Nothing
reaches a network: the client
asks a server of this script.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

QUESTIONS = [
    ("en", "Where is my parcel?", "track", 0.97),
    ("en", "I want my money back.", "refund", 0.93),
    ("pt", "Onde está a minha encomenda?", "refund", 0.55),
    ("de", "Bitte kündigen Sie mein Abo.", "cancel", 0.91),
    ("pt", "Quero cancelar.", "cancel", 0.42),
    ("en", "hello?? anyone", "other", 0.31),
]
RIGHT = {"Onde está a minha encomenda?": "track"}


class Endpoint(BaseHTTPRequestHandler):
    """Answers as the chat endpoint does; the flagship is busy once, and slow once."""

    busy = True

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/embeddings"):
            self.reply(200, {"object": "list", "model": asked["model"], "usage": {"prompt_tokens": 4, "total_tokens": 4},
                             "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]})  # fmt: skip
            return
        question = asked["messages"][-1]["content"]
        flagship = asked["model"] == "gpt-4.1"
        if flagship and question == "Quero cancelar." and Endpoint.busy:
            Endpoint.busy = False
            self.reply(503, {"error": {"message": "overloaded", "type": "server_error"}})
            return
        if flagship and question.startswith("hello"):
            time.sleep(1.0)
        label = next(label for _, text, label, _ in QUESTIONS if text == question)
        label = RIGHT.get(question, label) if flagship else label
        date = "2025-04-14"
        self.reply(200, {
            "id": f"chatcmpl-{abs(hash(question)) % 10**8}", "object": "chat.completion", "created": 1783328400,
            "model": f"{asked['model']}-{date}",
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                         "message": {"role": "assistant", "content": label}}],
            "usage": {"prompt_tokens": 20 + len(question), "completion_tokens": 2, "total_tokens": 22 + len(question),
                      "prompt_tokens_details": {"cached_tokens": 16}},
        })  # fmt: skip

    def reply(self, code, body):
        data = json.dumps(body).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def main(kind, target):
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only" if kind == "current" else "true"
    if kind == "current":
        os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    encode_spans, encode_logs = encoders()
    from opentelemetry.sdk._logs import LoggerProvider, export
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Seeded(IdGenerator):
        chance = random.Random(7)

        def generate_span_id(self):
            return self.chance.getrandbits(64)

        def generate_trace_id(self):
            return self.chance.getrandbits(128)

    resource = Resource({"service.name": "support-bot", "deployment.environment.name": "sample"})
    spans, logs = InMemorySpanExporter(), _in_memory(export)()
    tracing = TracerProvider(resource=resource, id_generator=Seeded())
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    logging = LoggerProvider(resource=resource)
    logging.add_log_record_processor(export.SimpleLogRecordProcessor(logs))
    if kind == "openinference":
        from openinference.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=tracing)
    else:
        from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=tracing, logger_provider=logging, **events(logging))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve(tracing.get_tracer("support"), f"http://127.0.0.1:{server.server_port}/v1")
    server.shutdown()
    lines = [encode_spans([span]) for span in spans.get_finished_spans()]
    lines += [encode_logs([log]) for log in logs.get_finished_logs()]
    text = "".join(json.dumps(line, default=_plain, ensure_ascii=False) + "\n" for line in lines)
    # Tracebacks name the folder the library was installed in.
    Path(target).write_text(re.sub(r"(/[\w.\-/]+)?/lib/python3\.\d+/(site-packages/)?", "", text), encoding="utf-8")


def events(logging):
    """Return what the older instrumentation calls the provider of log records."""
    with contextlib.suppress(ImportError):
        from opentelemetry.sdk._events import EventLoggerProvider

        return {"event_logger_provider": EventLoggerProvider(logging)}
    return {}


def _in_memory(export):
    return getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter


def encoders():
    """Return what writes spans and log records as OTLP JSON: the SDK's own, or protobuf's for an older SDK."""
    try:
        from opentelemetry.exporter.otlp.json.common._log_encoder import encode_logs
        from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
    except ImportError:
        from google.protobuf.json_format import MessageToDict
        from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        return (lambda spans: _hex(MessageToDict(encode_spans(spans)))), (
            lambda logs: _hex(MessageToDict(encode_logs(logs)))
        )
    return (lambda spans: encode_spans(spans).to_dict()), (lambda logs: encode_logs(logs).to_dict())


def _hex(value):
    """Write ids as OTLP JSON does; protobuf writes bytes as base64."""
    if isinstance(value, list):
        return [_hex(item) for item in value]
    if not isinstance(value, dict):
        return value
    ids = {"traceId", "spanId", "parentSpanId"}
    return {key: base64.b64decode(item).hex() if key in ids else _hex(item) for key, item in value.items()}


def _plain(value):
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def serve(tracer, url):
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)

    def ask(model, question, timeout=5.0):
        messages = [{"role": "system", "content": "One word."}, {"role": "user", "content": question}]
        return client.chat.completions.create(model=model, messages=messages, timeout=timeout, temperature=0)

    for language, question, _, confidence in QUESTIONS:
        with tracer.start_as_current_span("support request", attributes={"app.language": language}) as span:
            client.embeddings.create(model="text-embedding-3-small", input=question)
            ask("gpt-4.1-nano", question)
            span.set_attribute("app.gate.confidence", confidence)
            if confidence < 0.8:
                try:
                    ask("gpt-4.1", question, timeout=0.3)
                except openai.APITimeoutError:
                    continue
                except openai.APIStatusError:
                    ask("gpt-4.1", question)


if __name__ == "__main__":
    main(*sys.argv[1:])
