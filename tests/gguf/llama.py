"""llama.cpp through the package llama-cpp-python: the few calls that the tests need."""

import ctypes

import llama_cpp
import numpy as np

F32, F16, BF16 = 0, 1, 30
QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)


def start():
    llama_cpp.llama_log_set(QUIET, None)
    llama_cpp.llama_backend_init()


class Model:
    """A model of llama.cpp that computes with keys and values in f32."""

    def __init__(self, path, vocabulary_only=False):
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.vocab_only = vocabulary_only
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)

    def close(self):
        llama_cpp.llama_model_free(self.model)

    def ids(self, text, special=True, parse=False):
        data = text.encode() if isinstance(text, str) else text
        room = len(data) + 16
        out = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), out, room, special, parse)
        assert count >= 0
        return list(out[:count])

    def logits(self, ids):
        """[T, V] of one sequence."""
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = max(64, len(ids))
        parameters.n_threads = parameters.n_threads_batch = 2
        parameters.type_k = parameters.type_v = F32
        parameters.flash_attn_type = 0
        context = llama_cpp.llama_init_from_model(self.model, parameters)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        assert llama_cpp.llama_decode(context, batch) == 0
        size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        flat = llama_cpp.llama_get_logits(context)
        result = np.ctypeslib.as_array(flat, (len(ids), size)).copy()
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        return result

    def text(self, ids):
        """Without special tokens."""
        given, room = (llama_cpp.llama_token * len(ids))(*ids), 64 * len(ids) + 64
        out = ctypes.create_string_buffer(room)
        size = llama_cpp.llama_detokenize(self.vocabulary, given, len(ids), out, room, True, False)
        assert size >= 0
        return out.raw[:size].decode(errors="replace")

    def continued(self, ids, count):
        """The `count` most likely next tokens, one after the other; less where one of them ends the text."""
        found = list(ids)
        for _ in range(count):
            token = int(self.logits(found)[-1].argmax())
            if llama_cpp.llama_vocab_is_eog(self.vocabulary, token):
                break
            found.append(token)
        return found[len(ids) :]


def quantize(source, target, number):
    """As llama.cpp's own program does; `number` is general.file_type."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = 2
    parameters.ftype = number
    parameters.allow_requantize = True
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
    assert status == 0, f"llama.cpp does not quantise {source}"
