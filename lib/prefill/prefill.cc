#include "kv/prefill/prefill.hh"

#include "kv/checkpoint/card.hh"

#include <algorithm>

namespace kv {

Prefiller::Prefiller(const Session& session, PrefillOptions options)
    : session_(session),
      options_(std::move(options)),
      dtype_(options_.dtype.value_or(session.model->compute())) {
  const ModelConfig& config = session_.model->config();
  if (dtype_ == DType::kI8) fail_usage("--dtype int8: a codec's business; see kvencode");
  if (options_.split < 0) fail_usage("--split {}: give a number of tokens", options_.split);
  for (const std::uint32_t layer : options_.hidden_layers) {
    if (layer >= config.layers.size()) {
      fail_usage("--hidden {}: the model's layers are 0 to {}", layer, config.layers.size() - 1);
    }
  }
  if (puts_bos() && !session_.tokenizer->bos()) fail_usage("--bos: the tokenizer has none");
}

bool Prefiller::puts_bos() const {
  return options_.bos.value_or(session_.tokenizer->adds_bos()) && !prefix_;
}

void Prefiller::set_prefix(CacheFile prefix) {
  if (options_.split > 0) fail_usage("--split: chunks are prefilled alone, not behind a prefix");
  prefix_ = std::move(prefix);
}

std::vector<std::vector<std::int32_t>> Prefiller::chunks(const Document& document) const {
  const std::vector<std::int32_t> ids =
      document.tokens ? *document.tokens
                      : session_.tokenizer->encode(document.text, options_.parse_special);
  if (ids.empty()) fail_input("{}: the document is empty", document.place);
  const std::int64_t vocab = session_.model->config().vocab;
  for (const std::int32_t id : ids) {
    if (id >= vocab) fail_input("{}: token id {} is not below {}", document.place, id, vocab);
  }
  std::vector<std::vector<std::int32_t>> out;
  const std::size_t step =
      options_.split > 0 ? static_cast<std::size_t>(options_.split) : ids.size();
  for (std::size_t begin = 0; begin < ids.size(); begin += step) {
    std::vector<std::int32_t>& chunk = out.emplace_back();
    if (puts_bos()) chunk.push_back(*session_.tokenizer->bos());
    const auto from = ids.begin() + static_cast<std::ptrdiff_t>(begin);
    chunk.insert(chunk.end(), from,
                 from + static_cast<std::ptrdiff_t>(std::min(step, ids.size() - begin)));
    const auto total = static_cast<std::int64_t>(chunk.size()) + prefix_tokens();
    if (total > session_.model->config().context) {
      fail_input("{}: {} tokens, over the model's context of {}; cut it with --split N",
                 document.place, total, session_.model->config().context);
    }
  }
  return out;
}

Meta Prefiller::meta_of(const Document& document, std::size_t chunk, std::size_t chunks,
                        std::int64_t token_count) const {
  Meta meta;
  meta.model = session_.identity;
  meta.layers = layers_of(session_.model->config());
  meta.hidden_layers = options_.hidden_layers;
  meta.hidden = options_.hidden_layers.empty() ? 0 : session_.model->config().hidden;
  meta.dtype = dtype_;
  meta.document_json = document.fields_json;
  meta.history = options_.history;
  ChunkMeta own{chunks > 1 ? fmt::format("{}#{}", document.id, chunk) : document.id, 0, token_count,
                puts_bos()};
  if (prefix_ && options_.only_new) {
    meta.first_position = prefix_tokens();
  } else if (prefix_) {
    meta.chunks = prefix_->meta.chunks;
    own.token_begin = prefix_tokens();
  }
  meta.token_count = own.token_begin + token_count;
  meta.chunks.push_back(std::move(own));
  return meta;
}

namespace {

// Of the slots from `first_slot` on, all that the member holds.

}  // namespace

void Prefiller::write_tensors(const Meta& meta, const KvCache& cache, const ForwardResult& result,
                              std::int64_t first_slot, Writer& writer) const {
  Bytes bytes;
  for (const auto& [layer, kind] : meta.tensors()) {
    TensorView view = meta.shape_of({.kind = kind,
                                     .dtype = meta.dtype,
                                     .layer = layer,
                                     .token_count = static_cast<std::uint32_t>(meta.token_count)});
    bytes.resize(static_cast<std::size_t>(meta.token_count) * view.row_bytes());
    if (kind == format::Kind::kE) {
      const auto at = std::find(meta.hidden_layers.begin(), meta.hidden_layers.end(), layer);
      const auto& rows = result.hidden[static_cast<std::size_t>(at - meta.hidden_layers.begin())];
      std::size_t before = 0;
      if (prefix_ && !options_.only_new) {
        const Bytes& hidden = prefix_->hidden.at(layer);
        before = static_cast<std::size_t>(prefix_tokens()) * view.row_bytes();
        convert(hidden, prefix_->meta.dtype, std::span(bytes).first(before), meta.dtype);
      }
      convert(std::as_bytes(std::span(rows)), DType::kF32, std::span(bytes).subspan(before),
              meta.dtype);
    } else {
      const CachePart part = kind == format::Kind::kK ? CachePart::kKeys : CachePart::kValues;
      cache.save(layer, part, first_slot, meta.token_count, meta.dtype, bytes);
    }
    view.bytes = bytes;
    writer.write_raw(kind, layer, view);
  }
}

void Prefiller::write_member(const Meta& meta, std::span<const std::int32_t> tokens, Writer& writer,
                             const std::function<void(std::int64_t)>& on_tokens) {
  ForwardOptions forward;
  forward.logits = LogitRows::kNone;
  forward.hidden_layers.assign(options_.hidden_layers.begin(), options_.hidden_layers.end());
  forward.importance = options_.importance;
  forward.on_tokens = on_tokens;
  const auto count = static_cast<std::int64_t>(tokens.size());
  std::vector<std::int32_t> all(tokens.begin(), tokens.end());
  if (!prefix_) {
    KvCache cache = session_.model->make_cache({.capacity = count, .keep_unrotated_keys = true});
    const ForwardResult result = session_.model->forward(tokens, cache, forward);
    writer.begin_member(meta, all, importance_of(result, meta, 0));
    write_tensors(meta, cache, result, 0, writer);
  } else {
    // The prefix's slots are kept from document to document; only what stands behind is dropped.
    const std::int64_t before = prefix_tokens();
    const ForwardResult result = session_.model->forward(tokens, prefix_->cache, forward);
    if (!options_.only_new) {
      all.insert(all.begin(), prefix_->tokens.begin(), prefix_->tokens.end());
    }
    const std::int64_t first_slot = options_.only_new ? before : 0;
    writer.begin_member(meta, all, importance_of(result, meta, first_slot));
    write_tensors(meta, prefix_->cache, result, first_slot, writer);
    prefix_->cache.truncate(before);
  }
  writer.end_member();
}

void Prefiller::write(const Document& document, Writer& writer,
                      const std::function<void(std::int64_t)>& on_tokens) {
  const std::vector<std::vector<std::int32_t>> parts = chunks(document);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto count = static_cast<std::int64_t>(parts[i].size());
    write_member(meta_of(document, i, parts.size(), count), parts[i], writer, on_tokens);
  }
}

bool Prefiller::already_done(const std::string& path, const Document& document) const {
  const std::vector<std::vector<std::int32_t>> parts = chunks(document);
  bool same = true;
  std::size_t part = 0;
  try {
    Reader reader(Input::open(path));
    for (; const std::optional<Meta> found = reader.next_member(); ++part) {
      if (part == parts.size()) break;
      const auto count = static_cast<std::int64_t>(parts[part].size());
      const Meta wanted = meta_of(document, part, parts.size(), count);
      std::vector<std::int32_t> tokens = parts[part];
      if (prefix_ && !options_.only_new) {
        tokens.insert(tokens.begin(), prefix_->tokens.begin(), prefix_->tokens.end());
      }
      same = same && found->model == wanted.model && found->dtype == wanted.dtype &&
             found->layers == wanted.layers && found->hidden_layers == wanted.hidden_layers &&
             found->first_position == wanted.first_position && reader.tokens() == tokens &&
             reader.importance().empty() != options_.importance;
      while (reader.next_tile()) {
      }
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kInput) throw;
    return false;
  }
  if (!same || part != parts.size()) {
    fail_input("{}: is there already, but of another model, text or option; remove it or give -f",
               path);
  }
  return true;
}

Importance importance_of(const ForwardResult& result, const Meta& meta, std::int64_t first_slot) {
  Importance bytes(result.importance.empty() ? 0 : importance_size_bytes(meta));
  const auto first = static_cast<std::size_t>(first_slot);
  const auto count = static_cast<std::size_t>(meta.token_count);
  std::span<std::uint8_t> rest = bytes;
  for (const TokenImportance& layer : result.importance) {
    for (const std::vector<float>* weights : {&layer.keys, &layer.values}) {
      put_importance(std::span(*weights).subspan(first, count), rest.first(count));
      rest = rest.subspan(count);
    }
  }
  return bytes;
}

}  // namespace kv
