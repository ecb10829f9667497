#include "kv/blend/fused_member.hh"

#include "kv/base/error.hh"
#include "kv/checkpoint/card.hh"

namespace kv {

FusedMember::FusedMember(const Session& session, const Layout& layout, const KvCache& cache,
                         DType dtype, std::vector<HistoryEntry> history, Writer& writer)
    : cache_(cache), writer_(writer) {
  if (dtype == DType::kI8) fail_usage("--dtype int8: a codec's business; see kvencode");
  meta_.model = session.identity;
  meta_.layers = layers_of(session.model->config());
  meta_.dtype = dtype;
  meta_.token_count = layout.size();
  meta_.chunks = layout.chunks;
  meta_.history = std::move(history);
  writer_.begin_member(meta_, layout.ids);
}

void FusedMember::write_layer(std::int64_t layer) {
  Bytes bytes;
  for (const format::Kind kind : {format::Kind::kK, format::Kind::kV}) {
    TensorView view =
        meta_.shape_of({.kind = kind,
                        .dtype = meta_.dtype,
                        .layer = static_cast<std::uint32_t>(layer),
                        .token_count = static_cast<std::uint32_t>(meta_.token_count)});
    bytes.resize(static_cast<std::size_t>(meta_.token_count) * view.row_bytes());
    cache_.save(layer, kind == format::Kind::kK ? CachePart::kKeys : CachePart::kValues, 0,
                meta_.token_count, meta_.dtype, bytes);
    view.bytes = bytes;
    writer_.write_raw(kind, static_cast<std::uint32_t>(layer), view);
  }
}

void FusedMember::end() { writer_.end_member(); }

}  // namespace kv
