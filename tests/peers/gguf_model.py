"""Models as GGUF files, in the order of rows and under the names of llama.cpp's converter."""

import gguf
import numpy as np


def interleaved(rows, heads):
    """A head's rows as the converter orders them: llama.cpp rotates neighbours, not halves."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(path, config, weights, more=(), vocabulary=True):
    """A Llama model. `config` is transformers' LlamaConfig, or anything with its names. `weights`:
    by Hugging Face's names, (array, ggml type), block formats as rows of bytes. `more`: (GGUF's
    name, array) pairs, as they are. Without `vocabulary` the file says that it will have none."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    if not vocabulary:
        writer.add_vocab_size(config.vocab_size)
        writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, (rows, kind) in weights.items():
        if ".q_proj." in name:
            rows = interleaved(rows, config.num_attention_heads)
        if ".k_proj." in name:
            rows = interleaved(rows, config.num_key_value_heads)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), np.ascontiguousarray(rows), raw_dtype=kind)
    for name, values in more:
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
