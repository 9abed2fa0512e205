"""Runs in the serve environment: each release directory named on the command line is loaded by vLLM in a child of its
own and asked one question.

The imports, which take longer than tiny models do, happen once. One JSON line each: the answer, vLLM's kernel, or
vLLM's own reason.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import traceback
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


def serve(directory: str) -> dict[str, Any]:
    """The release's own serving arguments; a real answer is the only proof."""
    from vllm import LLM, SamplingParams

    with open(os.path.join(directory, "manifest.json"), encoding="utf8") as stream:
        manifest = json.load(stream)
    with open(os.path.join(directory, "golden.jsonl"), encoding="utf8") as stream:
        golden = json.loads(stream.readline())
    serving, task = manifest["serving"], manifest["task"]
    shared = {
        "dtype": serving["dtype"],
        "max_model_len": serving["max_model_len"],
        "max_num_seqs": 4,
        "enforce_eager": True,
    }
    model = LLM(directory, **shared, **({"runner": "pooling"} if task != "causal-lm" else {}))
    if task == "token-classification":
        asked = {"prompt_token_ids": golden["input_ids"]}
        (found,) = model.encode([asked], pooling_task="token_classify", use_tqdm=False)
        words = [found.outputs.data[index].max().item() for index in golden["first_subwords"]]
        return {"difference": max(abs(a - b) for a, b in zip(words, golden["confidences"], strict=True))}
    if task == "sequence-classification":
        (found,) = model.classify([golden["text"]], use_tqdm=False)
        stated = list(golden["probs"].values())
        return {"difference": max(abs(a - b) for a, b in zip(found.outputs.probs, stated, strict=True))}
    drawn = SamplingParams(temperature=0, max_tokens=4, logprobs=1)
    if "messages" in golden:
        (found,) = model.chat([golden["messages"]], drawn, use_tqdm=False)
    else:
        (found,) = model.generate([{"prompt_token_ids": golden["prompt_ids"]}], drawn, use_tqdm=False)
    first = found.outputs[0]
    (best,) = [one for token, one in first.logprobs[0].items() if token == first.token_ids[0]]
    return {"difference": abs(best.logprob - golden["first_token_logprob"])}


def in_child(directory: str) -> dict[str, Any]:
    """Forked, so that what vLLM keeps of one model does not meet the next."""
    with tempfile.TemporaryFile("w+", encoding="utf8") as log:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                outcome = {"outcome": "served"} | serve(directory)
            except BaseException as error:
                traceback.print_exc()
                outcome = {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}
            os.write(write, json.dumps(outcome).encode())
            sys.stdout.flush()
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as stream:
            answer = stream.read()
        os.waitpid(child, 0)
        log.seek(0)
        text = log.read()
    found = (
        json.loads(answer)
        if answer
        else {"outcome": "failed", "reason": "the process died: " + " ".join(text.splitlines()[-3:])[-300:]}
    )
    return found | {"kernels": list(dict.fromkeys(re.findall(r"(?:Selected|Using) (\w+Kernel)", text)))}


if __name__ == "__main__":
    import vllm.entrypoints.llm  # noqa: F401  # once, for every child

    for directory in sys.argv[1:]:
        print(json.dumps({"release": directory} | in_child(directory)), flush=True)
