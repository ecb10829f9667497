// Files that nobody should send: each is refused with one message, or read; nothing else happens.
#include "convert_samples.hh"

#include <doctest/doctest.h>

using namespace kv;
using namespace kv::sample;

namespace {

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void overwrite(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Files of a layout with one of them damaged.
struct Case {
  const char* layout;
  std::string path;  // what is imported
  std::string file;  // what is damaged
};

enum class Outcome { kRead, kRefused };

Outcome import(const Case& at, const Folder& folder) {
  LayoutOptions options;
  if (layout_by_name(at.layout).blocks) options.blocks = BlockOptions{.tokens = 4};
  try {
    import_from(at.layout, at.path, folder / "b.kv", import_of(meta(8, DType::kF32)), options);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
    return Outcome::kRefused;
  }
  return Outcome::kRead;
}

std::vector<Case> cases(const Folder& folder) {
  write_cache(folder / "a.kv", meta(8, DType::kF32), ids(8));
  LayoutOptions blocks;
  blocks.blocks = BlockOptions{.tokens = 4};
  export_to("npy", folder / "a.kv", folder / "npy");
  export_to("transformers", folder / "a.kv", folder / "transformers");
  export_to("llamacpp", folder / "a.kv", folder / "llamacpp");
  export_to("vllm", folder / "a.kv", folder / "store", blocks);
  const std::string vllm = std::filesystem::directory_iterator(folder / "store")->path();
  return {{"npy", folder / "npy", folder / "npy/001_v.npy"},
          {"npy", folder / "npy", folder / "npy/tokens.npy"},
          {"npy", folder / "npy", folder / "npy/meta.json"},
          {"transformers", folder / "transformers", folder / "transformers"},
          {"llamacpp", folder / "llamacpp", folder / "llamacpp"},
          {"vllm", vllm, vllm + "/model.layers.1.self_attn.attn.safetensors"}};
}

}  // namespace

TEST_CASE("every truncation, and bytes behind the end") {
  const Folder folder;
  for (const Case& at : cases(folder)) {
    CAPTURE(at.file);
    const std::string whole = contents(at.file);
    CHECK(import(at, folder) == Outcome::kRead);
    const bool json = at.file.ends_with(".json");
    // All of the beginning, where headers are, and some of the rest.
    for (std::size_t size = 0; size < whole.size(); size += size < 700 ? 1 : 61) {
      if (json && size + 1 == whole.size()) break;  // the last newline
      CAPTURE(size);
      overwrite(at.file, std::string_view(whole).substr(0, size));
      CHECK(import(at, folder) == Outcome::kRefused);
    }
    if (!json) {
      overwrite(at.file, whole + '\0');
      CHECK(import(at, folder) == Outcome::kRefused);
    }
    overwrite(at.file, whole);
  }
}

TEST_CASE("flipped bits of headers") {
  const Folder folder;
  for (const Case& at : cases(folder)) {
    CAPTURE(at.file);
    const std::string whole = contents(at.file);
    std::size_t refused = 0;
    for (std::size_t bit = 0; bit < 8 * std::min<std::size_t>(whole.size(), 320); bit += 3) {
      CAPTURE(bit);
      std::string damaged = whole;
      damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
      overwrite(at.file, damaged);
      refused += import(at, folder) == Outcome::kRefused;
    }
    CHECK(refused > 20);
    overwrite(at.file, whole);
  }
}

// The attacks of the safetensors repository, on a file of ours.
TEST_CASE("headers of safetensors that lie") {
  const Folder folder;
  const std::string path = folder / "lie";
  const Case at = {"transformers", path, path};
  const auto refused = [&](const std::string& header, const std::string& data,
                           std::optional<std::uint64_t> size = std::nullopt) {
    const std::uint64_t bytes = size.value_or(header.size());
    overwrite(path,
              std::string(reinterpret_cast<const char*>(&bytes), sizeof(bytes)) + header + data);
    return import(at, folder) == Outcome::kRefused;
  };
  const std::string data(512, '\0');
  const auto keys = [](const char* shape, const char* offsets) {
    return fmt::format(R"({{"keys.0":{{"dtype":"F32","shape":{},"data_offsets":{}}}}})", shape,
                       offsets);
  };
  CHECK(refused("{}", "", ~std::uint64_t{0}));
  CHECK(refused("{}", "", 1ull << 40));
  CHECK(refused(keys("[1,2,8,8]", "[0,512]"), data));  // no other tensors
  CHECK(refused(keys("[1,2,8,8]", "[512,0]"), data));
  CHECK(refused(keys("[1,2,8,8]", "[0,18446744073709551615]"), data));
  CHECK(refused(keys("[1,2,4294967296,4294967296]", "[0,512]"), data));
  CHECK(refused(keys("[1,2,-8,8]", "[0,512]"), data));
  CHECK(refused(keys("[1,2,8.5,8]", "[0,512]"), data));
  CHECK(refused(keys("[2,1,8,8]", "[0,512]"), data));
  CHECK(refused(keys("[]", "[0,4]"), data.substr(0, 4)));
  CHECK(refused(keys("[1,2,0,8]", "[0,0]"), ""));
  CHECK(refused(std::string(1000, '['), data));
  CHECK(refused(R"({"keys.0":null})", data));
  CHECK(refused(R"([])", data));
}

TEST_CASE("a folder that is there already stays as it is") {
  const Folder folder;
  write_cache(folder / "a.kv", meta(8, DType::kF32), ids(8));
  export_to("npy", folder / "a.kv", folder / "npy");
  const std::string before = contents(folder / "npy/000_k.npy");
  Meta other = meta(5, DType::kF32);
  write_cache(folder / "b.kv", other, ids(5));
  CHECK_THROWS_AS(export_to("npy", folder / "b.kv", folder / "npy"), Error);
  CHECK(contents(folder / "npy/000_k.npy") == before);
  TileSource source(folder / "b.kv");
  export_cache(source, layout_by_name("npy"),
               {.file = nullptr, .folder = folder / "npy", .overwrite = true}, {}, 1);
  CHECK(contents(folder / "npy/000_k.npy") != before);
  std::size_t entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path)) {
    CAPTURE(entry.path());
    ++entries;
  }
  CHECK(entries == 3);
}
