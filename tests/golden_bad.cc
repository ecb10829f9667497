#include "golden_files.hh"
#include "unit/container_forge.hh"
#include "unit/container_samples.hh"

namespace kv::golden {
namespace {

using forge::Frame;
using forge::FrameType;
using format::EndPayload;
using format::IndexEntry;
using format::TileHeader;
using Frames = std::vector<Frame>;

// Frames of the sound member that all are made from: two layers, two tokens, a tile a token.
//   0 META  1 TOKN  2-3 K 0  4-5 V 0  6-7 K 1  8-9 V 1  10 INDX  11 END
constexpr std::size_t kMeta = 0, kTokens = 1, kTile = 2, kIndex = 10, kEnd = 11;

std::string sound() {
  return samples::written(
      [](Writer& writer) { samples::write_member(writer, samples::small_meta(2), 1); });
}

template <typename F>
std::string frames(F&& edit) {
  Frames all = forge::split(sound());
  edit(all);
  return forge::join(all);
}

template <typename F>
std::string bytes(F&& edit) {
  std::string all = sound();
  edit(all);
  return all;
}

template <typename F>
std::string tile(F&& edit, std::size_t frame = kTile) {
  return frames([&](Frames& all) { forge::change<TileHeader>(all[frame], edit); });
}

template <typename F>
std::string end(F&& edit) {
  return frames([&](Frames& all) { forge::change<EndPayload>(all[kEnd], edit); });
}

// META with `from` once replaced by `to`.
std::string meta(std::string_view from, std::string_view to) {
  return frames([&](Frames& all) {
    const std::size_t at = all[kMeta].payload.find(from);
    if (at == std::string::npos) throw std::logic_error("META has no " + std::string(from));
    all[kMeta].payload.replace(at, from.size(), to);
  });
}

std::string meta_whole(std::string text) {
  return frames([&](Frames& all) { all[kMeta].payload = std::move(text); });
}

std::string header(format::MemberHeader member) {
  return forge::join(forge::split(sound()), member);
}

// Byte offset of a frame in sound().
std::size_t at(std::size_t frame) {
  const Frames all = forge::split(sound());
  return forge::join(Frames(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(frame))).size();
}

void move(Frames& all, std::size_t from, std::size_t to) {
  const Frame frame = all[from];
  all.erase(all.begin() + static_cast<std::ptrdiff_t>(from));
  all.insert(all.begin() + static_cast<std::ptrdiff_t>(to), frame);
}

Files streams() {
  const std::string good = sound();
  const auto cut = [&](std::size_t n) { return good.substr(0, n); };
  return {
      {"empty", ""},
      {"not_kv", "PK\x03\x04 this is something else altogether"},
      {"crlf_to_lf", bytes([](std::string& all) { all.erase(4, 1); })},
      {"major_2", header({.major = 2})},
      {"member_reserved", header({.reserved = 1})},
      {"truncated_member_header", cut(9)},
      {"truncated_frame_header", cut(at(kTile) + 20)},
      {"truncated_payload", cut(at(kTile + 3) + 40)},
      {"truncated_padding", cut(at(kTile + 1) - 1)},
      {"truncated_before_end", cut(at(kEnd))},
      {"truncated_second_member", good + cut(at(kTile))},
      {"trailing_zeros", good + std::string(16, '\0')},
      {"trailing_text", good + "\n"},
      {"header_hash", bytes([](std::string& all) { all[at(kTile) + 8] ^= 1; })},
      {"payload_hash", bytes([](std::string& all) { all[at(kTile) + 32 + 33] ^= 1; })},
      {"frame_dropped", bytes([](std::string& all) { all.erase(at(3), at(4) - at(3)); })},
      {"frame_doubled",
       bytes([](std::string& all) { all.insert(at(4), all.substr(at(3), at(4) - at(3))); })},
  };
}

Files orders() {
  const auto unknown = forge::type_of({'L', 'O', 'R', 'A'});
  return {
      {"padding", frames([](Frames& all) { all[kTile].padding = 'x'; })},
      {"flags", frames([](Frames& all) { all[kTile].flags = 2; })},
      {"known_type_optional", frames([](Frames& all) { all[kTile].flags = 1; })},
      {"unknown_required", frames([&](Frames& all) {
         all.insert(all.begin() + 2, {unknown, "x", 0, {}, '\0'});
       })},
      {"unknown_flags", frames([&](Frames& all) {
         all.insert(all.begin() + 2, {unknown, "x", 5, {}, '\0'});
       })},
      {"optional_before_meta", frames([&](Frames& all) {
         all.insert(all.begin(), {unknown, "x", 1, {}, '\0'});
       })},
      {"optional_behind_index", frames([&](Frames& all) {
         all.insert(all.begin() + kEnd, {unknown, "x", 1, {}, '\0'});
       })},
      {"no_meta", frames([](Frames& all) { all.erase(all.begin()); })},
      {"tensor_before_meta", frames([](Frames& all) { move(all, kMeta, kTile); })},
      {"second_meta", frames([](Frames& all) { all.insert(all.begin() + 1, all[kMeta]); })},
      {"second_tokens", frames([](Frames& all) { all.insert(all.begin() + 1, all[kTokens]); })},
      {"tokens_behind_tensor", frames([](Frames& all) { move(all, kTokens, kTile); })},
      {"second_index", frames([](Frames& all) { all.insert(all.begin() + kEnd, all[kIndex]); })},
      {"tensor_behind_index", frames([](Frames& all) { move(all, kIndex, kIndex - 1); })},
      {"meta_oversized", frames([](Frames& all) { all[kMeta].declared_bytes = (1u << 20) + 1; })},
      {"frame_oversized", frames([](Frames& all) { all[kTile].declared_bytes = (1u << 30) + 1; })},
      {"frame_size_wraps", frames([](Frames& all) { all[kTile].declared_bytes = ~0ull; })},
      {"frame_large_truncated", frames([](Frames& all) { all[kTile].declared_bytes = 1u << 30; })},
      {"tokens_too_few", frames([](Frames& all) { all[kTokens].payload.resize(4); })},
      {"tokens_too_many", frames([](Frames& all) { all[kTokens].payload.resize(12); })},
      {"tokens_negative", frames([](Frames& all) { all[kTokens].payload[7] = '\x80'; })},
      {"index_too_short", frames([](Frames& all) { all[kIndex].payload.resize(64 * 7); })},
      {"index_wrong", frames([](Frames& all) {
         forge::change<IndexEntry>(all[kIndex], [](IndexEntry& entry) { entry.offset += 16; });
       })},
  };
}

// With an IMPT behind TOKN, of 2 layers with K and V and 2 tokens.
template <typename F>
std::string importance(F&& edit) {
  return frames([&](Frames& all) {
    all.insert(all.begin() + kTile,
               {FrameType::kImportance, "\x80\x81\x82\x83\x7f\x7e\x01\xff", 1, {}, '\0'});
    edit(all);
  });
}

Files importances() {
  constexpr std::size_t kImportance = 2;
  const auto unknown = forge::type_of({'L', 'O', 'R', 'A'});
  return {
      {"importance_short", importance([](Frames& all) { all[kImportance].payload.pop_back(); })},
      {"importance_long", importance([](Frames& all) { all[kImportance].payload += '\x80'; })},
      {"importance_zero", importance([](Frames& all) { all[kImportance].payload[5] = '\0'; })},
      {"importance_required", importance([](Frames& all) { all[kImportance].flags = 0; })},
      {"importance_twice",
       importance([](Frames& all) { all.insert(all.begin() + kImportance, all[kImportance]); })},
      {"importance_before_meta", importance([](Frames& all) { move(all, kImportance, 0); })},
      {"importance_before_tokens", importance([](Frames& all) { move(all, kImportance, 1); })},
      {"importance_behind_tensor", importance([](Frames& all) { move(all, kImportance, 3); })},
      {"importance_behind_index",
       importance([](Frames& all) { move(all, kImportance, kIndex + 1); })},
      {"importance_behind_optional", importance([&](Frames& all) {
         all.insert(all.begin() + kImportance, {unknown, "x", 1, {}, '\0'});
       })},
  };
}

Files tiles() {
  return {
      {"tile_too_small", frames([](Frames& all) { all[kTile].payload.resize(31); })},
      {"tile_kind", tile([](TileHeader& t) { t.kind = static_cast<format::Kind>(0x1B); })},
      {"tile_kind_undeclared", tile([](TileHeader& t) { t.kind = format::Kind::kE; })},
      {"tile_layer_undeclared", tile([](TileHeader& t) { t.layer = 2; })},
      {"tile_dtype", tile([](TileHeader& t) { t.dtype = static_cast<DType>(7); })},
      {"tile_dtype_other", tile([](TileHeader& t) { t.dtype = DType::kF16; })},
      {"tile_reserved0", tile([](TileHeader& t) { t.reserved0 = 1; })},
      {"tile_reserved1", tile([](TileHeader& t) { t.reserved1 = 1; })},
      {"tile_no_tokens", tile([](TileHeader& t) { t.token_count = 0; })},
      {"tile_beyond", tile([](TileHeader& t) { t.token_count = 3; })},
      {"tile_count_wraps", tile([](TileHeader& t) { t.token_count = ~0u; }, kTile + 1)},
      {"tile_gap", tile([](TileHeader& t) { t.token_begin = 1; })},
      {"tile_begin_wraps", tile([](TileHeader& t) { t.token_begin = ~0ull; })},
      {"tile_overlap", tile([](TileHeader& t) { t.token_begin = 0; }, kTile + 1)},
      {"tile_order", frames([](Frames& all) { std::swap(all[kTile], all[kTile + 2]); })},
      {"tile_doubled", frames([](Frames& all) { all.insert(all.begin() + kTile, all[kTile]); })},
      {"tile_missing", frames([](Frames& all) { all.erase(all.begin() + kIndex - 1); })},
      {"tile_raw_short", frames([](Frames& all) { all[kTile].payload.pop_back(); })},
      {"tile_raw_long", frames([](Frames& all) { all[kTile].payload += "xx"; })},
      {"quality_beyond", tile([](TileHeader& t) { t.quality = t.codec = 1; }, kTile + 1)},
      {"end_too_early", frames([](Frames& all) { all.erase(all.begin() + 2, all.begin() + 10); })},
      {"end_too_short", frames([](Frames& all) { all[kEnd].payload.resize(16); })},
      {"end_frame_count", end([](EndPayload& e) { ++e.frame_count; })},
      {"end_member_size", end([](EndPayload& e) { e.member_size_bytes += 16; })},
      {"end_index_offset", end([](EndPayload& e) { e.index_offset = 0; })},
      {"end_reserved", end([](EndPayload& e) { e.reserved = 1; })},
  };
}

Files metas() {
  std::string deep = R"("document":{"a":)" + std::string(31, '[') + std::string(31, ']') + "}";
  return {
      {"meta_not_json", meta_whole("{\"chunks\":")},
      {"meta_not_utf8", meta("sample", "\xFF\xFE")},
      {"meta_surrogate", meta("sample", "\\ud800")},
      {"meta_control_character", meta("sample", "\x1b[31m\n")},
      {"meta_bom", meta("{", "\xEF\xBB\xBF{")},
      {"meta_list", meta_whole("[]")},
      {"meta_empty", meta_whole("")},
      {"meta_behind", meta("\"token_count\":2}", "\"token_count\":2} {}")},
      {"meta_double_key", meta("\"codec\":", "\"chunks\":[],\"codec\":")},
      {"meta_deep", meta("\"document\":{}", deep)},
      {"meta_missing", meta("\"rope_applied\":false,", "")},
      {"meta_mistyped", meta("\"rope_applied\":false", "\"rope_applied\":0")},
      {"meta_nan", meta("\"theta\":10000.0", "\"theta\":NaN")},
      {"meta_infinite", meta("\"theta\":10000.0", "\"theta\":1e999")},
      {"meta_theta_zero", meta("\"theta\":10000.0", "\"theta\":0")},
      {"meta_scaling", meta("\"scaling\":\"none\"", "\"scaling\":\"dynamic\\u001b\\n\"")},
      {"meta_dtype", meta("bf16", "bf17")},
      {"meta_token_count_limit", meta("\"token_count\":2", "\"token_count\":67108865")},
      {"meta_token_count_float", meta("\"token_count\":2", "\"token_count\":2.0")},
      {"meta_token_count_huge", meta("\"token_count\":2", "\"token_count\":18446744073709551615")},
      {"meta_token_count_negative", meta("\"token_count\":2", "\"token_count\":-1")},
      {"meta_fingerprint",
       meta("00112233445566778899aabbccddeeff", "00112233445566778899AABBCCDDEEFF")},
      {"meta_chunk_beyond",
       meta("\"chunks\":[]", R"("chunks":[{"bos":true,"count":3,"first":0,"id":"a\nb"}])")},
      {"meta_layer_limit", meta("\"count\":2,\"first\":0", "\"count\":4097,\"first\":0")},
      {"meta_layer_repeated",
       meta("\"layers\":[{", R"("layers":[{"count":4,"first":0,"k_dim":1,)"
                             R"("kv_heads":1,"latent_dim":1,"rope":{"attention_factor":1,)"
                             R"("beta_fast":1,"beta_slow":1,"factor":1,"high_freq_factor":1,)"
                             R"("low_freq_factor":1,"original_context":0,"scaling":"none",)"
                             R"("theta":1,"truncate":true},"v_dim":1,"window":0},{)")},
      {"meta_no_heads", meta("\"kv_heads\":2", "\"kv_heads\":0")},
      {"meta_row_values", meta("\"k_dim\":3,\"kv_heads\":2", "\"k_dim\":4097,\"kv_heads\":4096")},
      {"meta_hidden_without_size", meta("\"hidden_layers\":[]", "\"hidden_layers\":[0]")},
      {"meta_hidden_descending",
       meta("\"hidden\":0,\"hidden_layers\":[]", "\"hidden\":4,\"hidden_layers\":[1,0]")},
      {"meta_quality_layers", meta("\"quality_layers\":1", "\"quality_layers\":0")},
  };
}

}  // namespace

Files bad() {
  Files all;
  for (Files (*part)() : {streams, orders, importances, tiles, metas}) {
    for (auto& file : part()) all.push_back(std::move(file));
  }
  return all;
}

}  // namespace kv::golden
