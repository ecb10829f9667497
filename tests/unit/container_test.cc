#include "container_samples.hh"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>

using namespace kv;

TEST_CASE("a member comes back as it was written") {
  const Meta meta = samples::small_meta();
  const std::string bytes =
      samples::written([&](Writer& writer) { samples::write_member(writer, meta, 2); });
  const samples::MemoryFile file(bytes + bytes);

  Reader reader(file.input());
  for (std::uint64_t member = 0; member < 2; ++member) {
    const auto back = reader.next_member();
    REQUIRE(back);
    CHECK(*back == meta);
    CHECK(reader.member_index() == member);
    CHECK(reader.tokens() == samples::ids(5));
    std::size_t tiles = 0;
    while (const auto tile = reader.next_tile()) {
      ++tiles;
      const Bytes wanted = samples::values(tile->data.size(), static_cast<std::uint32_t>(tiles));
      CHECK(as_text(tile->data) == as_text(wanted));
      CHECK(tile->view(*back).shape[0] == tile->header.token_count);
    }
    CHECK(tiles == 4 * 3);
  }
  CHECK_FALSE(reader.next_member());
  CHECK(reader.offset() == 2 * bytes.size());

  const IndexedFile indexed(file.path());
  REQUIRE(indexed.members() == 2);
  CHECK(indexed.meta(1) == meta);
  CHECK(indexed.tokens(1) == samples::ids(5));
  REQUIRE(indexed.index(1).size() == 12);
  for (std::size_t entry = 0; entry < 12; ++entry) {
    const Tile tile = indexed.tile(1, entry);
    const Bytes wanted = samples::values(tile.data.size(), static_cast<std::uint32_t>(entry + 1));
    CHECK(as_text(tile.data) == as_text(wanted));
  }
}

namespace {

std::string member_of(const Meta& meta, std::uint32_t tile_tokens = 1u << 20) {
  return samples::written(
      [&](Writer& writer) { samples::write_member(writer, meta, tile_tokens); });
}

std::string refusal_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    return error.what();
  }
  return "";
}

std::vector<std::filesystem::path> golden_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(KV_TESTS) / "golden/v1")) {
    files.push_back(entry.path());
  }
  REQUIRE(files.size() >= 18);
  return files;
}

}  // namespace

TEST_CASE("through a pipe in small pieces") {
  const Meta meta = samples::small_meta(7);
  const std::string bytes = member_of(meta, 3) + member_of(meta, 2);
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  std::thread sender([&] {
    for (std::size_t at = 0; at < bytes.size(); at += 7) {
      const std::string_view piece = std::string_view(bytes).substr(at, 7);
      if (write(ends[1], piece.data(), piece.size()) < 0) return;
    }
    close(ends[1]);
  });
  std::string data;
  int members = 0;
  {
    Reader reader(Input::open(fmt::format("/proc/self/fd/{}", ends[0])));
    while (reader.next_member()) {
      ++members;
      while (const auto tile = reader.next_tile()) data += as_text(tile->data);
    }
  }
  sender.join();
  close(ends[0]);
  CHECK(members == 2);
  const samples::MemoryFile file(bytes);
  Reader reader(file.input());
  std::string expected;
  while (reader.next_member()) {
    while (const auto tile = reader.next_tile()) expected += as_text(tile->data);
  }
  CHECK(data == expected);
}

TEST_CASE("large frames: tiles of at most kTileBytes, aligned, zero-copy from a file") {
  Meta meta = samples::small_meta(5, DType::kF32);
  meta.layers.resize(1);
  meta.layers[0].geometry.kv_heads = 1;
  meta.layers[0].geometry.k_dim = 1 << 21;  // a row of 8 MiB
  meta.layers[0].geometry.v_dim = 1;
  const Bytes k = samples::values(5u << 23, 1), v = samples::values(20, 2);
  const samples::MemoryFile file(samples::written([&](Writer& writer) {
    writer.begin_member(meta, {});
    writer.write_raw(format::Kind::kK, 0, {DType::kF32, {5, 1, 1 << 21}, k});
    writer.write_raw(format::Kind::kV, 0, {DType::kF32, {5, 1, 1}, v});
    writer.end_member();
  }));
  const auto check = [&](const Tile& tile, std::size_t number) {
    CHECK(reinterpret_cast<std::uintptr_t>(tile.data.data()) % 16 == 0);
    const std::vector<std::uint32_t> counts = {2, 2, 1, 5};
    CHECK(tile.header.token_count == counts.at(number));
    const ByteView all = number == 3 ? ByteView(v) : ByteView(k);
    const ByteView wanted =
        number == 3 ? all : all.subspan(tile.header.token_begin << 23, tile.data.size());
    CHECK(std::equal(tile.data.begin(), tile.data.end(), wanted.begin(), wanted.end()));
    CHECK(tile.view(meta).as<float>().size() * 4 == tile.data.size());
  };
  Reader reader(file.input());
  REQUIRE(reader.next_member());
  std::size_t number = 0;
  while (const auto tile = reader.next_tile()) check(*tile, number++);
  CHECK(number == 4);

  const IndexedFile indexed(file.path());
  const std::uint64_t before = indexed.touched_bytes();
  CHECK(before <= 3 * 4096);
  check(indexed.tile(0, 3), 3);
  CHECK(indexed.touched_bytes() <= before + 2 * 4096);
  check(indexed.tile(0, 1), 1);
  const std::uint64_t after = indexed.touched_bytes();
  CHECK(after >= (2u << 23));
  CHECK(after <= before + (2u << 23) + 4 * 4096);
  check(indexed.tile(0, 1), 1);
  CHECK(indexed.touched_bytes() == after);  // a page counts once

  // Memory that was given back comes again with the same bytes.
  const Tile first = indexed.tile(0, 0);
  for (int round = 0; round < 6; ++round) check(indexed.tile(0, 1), 1);
  check(first, 0);
}

TEST_CASE("small rows: tiles of at most kTileTokens") {
  Meta meta = samples::small_meta(2 * Writer::kTileTokens + 1, DType::kI8);
  meta.layers.resize(1);
  const Bytes k = samples::values(static_cast<std::size_t>(meta.token_count) * 6, 1);
  const Bytes v = samples::values(static_cast<std::size_t>(meta.token_count) * 4, 1);
  const samples::MemoryFile file(samples::written([&](Writer& writer) {
    writer.begin_member(meta, {});
    writer.write_raw(format::Kind::kK, 0, {DType::kI8, {meta.token_count, 2, 3}, k});
    writer.write_raw(format::Kind::kV, 0, {DType::kI8, {meta.token_count, 2, 2}, v});
    writer.end_member();
  }));
  const IndexedFile indexed(file.path());
  REQUIRE(indexed.index(0).size() == 6);
  CHECK(indexed.index(0)[1].tile.token_begin == Writer::kTileTokens);
  CHECK(indexed.index(0)[2].tile.token_count == 1);
}

TEST_CASE("every byte of a stream is one field's") {
  for (const auto& path : golden_files()) {
    CAPTURE(path.string());
    std::uint64_t end = 0;
    Reader::Options options;
    options.on_field = [&](const FieldNote& note) {
      CHECK(note.offset == end);
      CHECK(note.size_bytes > 0);
      CHECK_FALSE(note.name.empty());
      end = note.offset + note.size_bytes;
    };
    Reader reader(Input::open(path.string()), options);
    while (reader.next_member()) {
    }
    CHECK(end == std::filesystem::file_size(path));
  }
}

TEST_CASE("golden files read and written again are the same bytes") {
  for (const auto& path : golden_files()) {
    const std::string name = path.stem().string();
    // These hold what the writer leaves out.
    if (name == "newer_minor" || name == "no_index" || name == "optional_frames") continue;
    CAPTURE(name);
    const std::string again = samples::written([&](Writer& writer) {
      Reader reader(Input::open(path.string()));
      while (const auto meta = reader.next_member()) {
        writer.begin_member(*meta, reader.tokens(), reader.importance());
        while (const auto tile = reader.next_tile()) writer.write_tile(tile->header, tile->data);
        writer.end_member();
      }
    });
    CHECK((again == as_text(Input::open(path.string()).read_all(1u << 20))));
  }
}

TEST_CASE("what is skipped is verified, unless told not to") {
  const Meta meta = samples::small_meta();
  std::string bytes = member_of(meta);
  const std::string good = bytes;
  bytes[bytes.size() - 64 - 32 - 4 * 64 - 16] ^= 1;  // the last tile's data
  const samples::MemoryFile file(bytes + good);
  Reader reader(file.input());
  REQUIRE(reader.next_member());
  CHECK(refusal_of([&] { reader.next_member(); }).find("payload checksum") != std::string::npos);

  Reader trusting(file.input(), {.verify = false, .on_field = {}});
  REQUIRE(trusting.next_member());
  CHECK(trusting.next_member());
  CHECK_FALSE(trusting.next_member());
}

TEST_CASE("a member's hash tells members apart") {
  const auto hash_of = [](const std::string& bytes) {
    const samples::MemoryFile file(bytes);
    Reader reader(file.input());
    while (reader.next_member()) {
    }
    return reader.member_hash();
  };
  Meta meta = samples::small_meta();
  const std::uint64_t hash = hash_of(member_of(meta));
  CHECK(hash == hash_of(member_of(meta)));
  CHECK(hash != hash_of(member_of(meta, 2)));
  meta.first_position = 1;
  CHECK(hash != hash_of(member_of(meta)));
}

TEST_CASE("META") {
  Meta meta = samples::small_meta(3);
  CHECK(meta_to_json(meta) == meta_to_json(meta_from_json(meta_to_json(meta), "x")));
  CHECK(meta.bytes_per_token() == 2 * 2 * (3 + 2) * 2);

  meta.hidden = 4;
  meta.hidden_layers = {0, 7};
  meta.layers[1].latent_dim = 9;
  using format::Kind;
  const std::vector<std::pair<std::uint32_t, Kind>> tensors = {
      {0, Kind::kE}, {0, Kind::kK}, {0, Kind::kV}, {1, Kind::kL}, {7, Kind::kE}};
  CHECK((meta.tensors() == tensors));
  format::TileHeader tile{.kind = Kind::kL, .dtype = DType::kF16, .layer = 1, .token_count = 2};
  CHECK(meta.shape_of(tile).shape == std::array<std::int64_t, 3>{2, 1, 9});
  CHECK(meta.shape_of(tile).dtype == DType::kF16);
  tile.kind = Kind::kK;
  CHECK(refusal_of([&] { meta.shape_of(tile); }) == "META declares no K of layer 1");

  // Names of files need not be UTF-8; keys of later versions are carried along.
  meta.history = {{"kvprefill", "1", {"caf\xE9.txt"}}};
  meta.extra_json = R"({"zz":[1,{"a":null}]})";
  const Meta back = meta_from_json(meta_to_json(meta), "x");
  CHECK(back.history[0].arguments[0] == "caf\xEF\xBF\xBD.txt");
  CHECK(back.extra_json == meta.extra_json);
  CHECK(back.layers == meta.layers);
}

TEST_CASE("another model is refused") {
  const Meta meta = samples::small_meta();
  ModelIdentity wanted = meta.model;
  require_same_model(meta, "a.kv", wanted);
  wanted.name = "renamed";  // the same weights under another name
  require_same_model(meta, "a.kv", wanted);
  wanted.fingerprint = std::string(32, '0');
  CHECK(refusal_of([&] { require_same_model(meta, "a.kv", wanted); }) ==
        "a.kv: made with \"sample\" (fingerprint 00112233445566778899aabbccddeeff), not with "
        "\"renamed\" (fingerprint 00000000000000000000000000000000); give the model it was made "
        "with, or make it again");
  wanted = meta.model;
  wanted.tokenizer_fingerprint = std::string(32, '1');
  require_same_model(meta, "a.kv", wanted);  // the file does not know its tokenizer
  Meta other = meta;
  other.model.tokenizer_fingerprint = std::string(32, '2');
  CHECK(refusal_of([&] { require_same_model(other, "a.kv", wanted); }) != "");
  other.model = {};
  CHECK(refusal_of([&] { require_same_model(other, "a.kv", wanted); }) != "");
}

TEST_CASE("misuse of the writer") {
  const Meta meta = samples::small_meta(2);
  const Bytes k = samples::values(2 * 2 * 3 * 2, 0);
  const TensorView tensor{DType::kBF16, {2, 2, 3}, k};
  format::TileHeader tile{
      .kind = format::Kind::kK, .dtype = DType::kBF16, .layer = 0, .token_count = 2};
  const auto misuse = [&](const std::function<void(Writer&)>& act) {
    CHECK_THROWS_AS(samples::written(act), std::logic_error);
  };
  const auto in_member = [&](const std::function<void(Writer&)>& act) {
    misuse([&](Writer& writer) {
      writer.begin_member(meta, {});
      act(writer);
    });
  };
  misuse([&](Writer& writer) { writer.write_tile(tile, k); });
  misuse([&](Writer& writer) { writer.end_member(); });
  misuse([&](Writer& writer) { writer.write_optional({'n', 'o', 't', 'e'}, {}); });
  misuse([&](Writer& writer) { writer.begin_member(meta, samples::ids(3)); });
  misuse([&](Writer& writer) { writer.begin_member(meta, std::vector<std::int32_t>{1, -1}); });
  misuse([&](Writer& writer) { writer.begin_member(Meta{}, {}); });
  in_member([&](Writer& writer) { writer.begin_member(meta, {}); });
  in_member([&](Writer& writer) { writer.end_member(); });
  in_member([&](Writer& writer) { writer.write_tile(tile, ByteView(k).first(23)); });
  in_member([&](Writer& writer) { writer.write_raw(format::Kind::kV, 0, tensor); });
  in_member([&](Writer& writer) { writer.write_raw(format::Kind::kK, 1, tensor); });
  in_member([&](Writer& writer) { writer.write_raw(format::Kind::kK, 2, tensor); });
  in_member([&](Writer& writer) { writer.write_raw(format::Kind::kK, 0, tensor.tokens(0, 1)); });
  in_member([&](Writer& writer) { writer.write_optional({'T', 'E', 'N', 'S'}, {}); });
  in_member([&](Writer& writer) {
    writer.write_raw(format::Kind::kK, 0, tensor);
    writer.write_raw(format::Kind::kK, 0, tensor);
  });
}

TEST_CASE("fields of the user's that do not fit are the user's to mend") {
  Meta meta = samples::small_meta(0);
  const auto refusal = [&] { return refusal_of([&] { member_of(meta); }); };
  meta.document_json = "{\"text\":\"" + std::string(1 << 20, 'x') + "\"}";
  CHECK(refusal().find("over the limit") != std::string::npos);
  meta.document_json = "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  CHECK(refusal().find("nested deeper") != std::string::npos);
  // 32 by itself, 33 within META.
  meta.document_json = "{\"a\":" + std::string(31, '[') + std::string(31, ']') + "}";
  CHECK(refusal().find("nested deeper") != std::string::npos);
  meta.document_json = "{\"a\":" + std::string(30, '[') + std::string(30, ']') + "}";
  CHECK(refusal() == "");
}

TEST_CASE("random access needs a regular file with an index") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const Fd read_end(ends[0]), write_end(ends[1]);
  try {
    const IndexedFile file(fmt::format("/proc/self/fd/{}", ends[0]));
    FAIL("a pipe was taken");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kUsage);
  }
  const auto opening = [](const std::string& name) {
    return refusal_of([&] { IndexedFile(KV_TESTS "/" + name); });
  };
  CHECK(opening("golden/v1/no_index.kv").find("has no index") != std::string::npos);
  CHECK(opening("golden-bad/empty.kv").find("empty") != std::string::npos);
  CHECK(opening("golden-bad/not_kv.kv").find("not a kv stream") != std::string::npos);
  CHECK(opening("golden-bad/truncated_before_end.kv").find("no END frame") != std::string::npos);
  CHECK(opening("golden-bad/trailing_zeros.kv").find("no END frame") != std::string::npos);
  CHECK(opening("golden-bad/index_wrong.kv").find("leaves its place") != std::string::npos);
  CHECK(opening("golden-bad/tile_gap.kv") == "");  // the index is right, and is what is read ...
  const IndexedFile file(KV_TESTS "/golden-bad/tile_gap.kv");
  CHECK(refusal_of([&] { file.tile(0, 0); }).find("not as INDX says") != std::string::npos);
}
