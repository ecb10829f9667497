// Caches to other layouts and back, and files that engines wrote.
#include "convert_samples.hh"
#include "kv/convert/engine_keys.hh"

#include <doctest/doctest.h>

using namespace kv;
using namespace kv::sample;

namespace {

const std::string kEngines = KV_TESTS "/golden/engines/";

struct Way {
  const char* layout;
  DType dtype;       // of the cache
  double key_error;  // after the way there and back
  LayoutOptions options;
};

// What write_cache() has in f32, which f16 and bf16 hold exactly too.
std::vector<Way> ways() {
  LayoutOptions plain, rows, gpu, unrotated, small;
  rows.llama = LlamaOptions{.version = 2, .columns = false};
  small.blocks = BlockOptions{.tokens = 4};
  gpu.blocks = BlockOptions{.tokens = 4, .backend = VllmBackend::kGpu};
  unrotated.rope = false;
  return {{"npy", DType::kF32, 1e-6, plain},           {"npy", DType::kBF16, 3e-3, plain},
          {"npy", DType::kBF16, 0, unrotated},         {"transformers", DType::kF32, 1e-6, plain},
          {"transformers", DType::kBF16, 4e-3, plain}, {"transformers", DType::kF16, 5e-4, plain},
          {"llamacpp", DType::kF16, 5e-4, plain},      {"llamacpp", DType::kF32, 5e-4, rows},
          {"vllm", DType::kBF16, 4e-3, small},         {"vllm", DType::kF32, 1e-6, gpu}};
}

std::string only_entry(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path());
  }
  REQUIRE(names.size() == 1);
  return names[0];
}

Meta engine_meta() {
  Meta meta;
  meta.model = {"tiny", "llama", std::string(32, 'a'), "", "", ""};
  meta.layers = layers(2, {2, 16, 16, 0, {}});
  return meta;
}

}  // namespace

TEST_CASE("there and back") {
  for (const Way& way : ways()) {
    CAPTURE(way.layout);
    CAPTURE(dtype_name(way.dtype));
    const Folder folder;
    const std::int64_t tokens = 12;
    const Meta before = meta(tokens, way.dtype);
    write_cache(folder / "a.kv", before, ids(tokens));
    const ExportReport report = export_to(way.layout, folder / "a.kv", folder / "out", way.options);
    CHECK(report.token_count == tokens);
    std::string from = folder / "out";
    ImportOptions import = import_of(before);
    LayoutOptions options = way.options;
    options.rope.reset();
    options.llama.reset();
    if (options.blocks) {
      from = only_entry(from);
      import.tokens = ids(tokens + 3);  // more than are in it
    }
    options.dtype = way.dtype;
    import_from(way.layout, from, folder / "b.kv", import, options);
    const Cache a = read_cache(folder / "a.kv"), b = read_cache(folder / "b.kv");
    CHECK(b.meta.model == before.model);
    CHECK(b.meta.layers == before.layers);
    CHECK(b.meta.dtype == way.dtype);
    CHECK(!b.meta.rope_applied);
    CHECK(b.meta.token_count == tokens);
    CHECK(b.tokens == ids(tokens));
    for (std::size_t i = 0; i < a.tensors.size(); ++i) {
      CAPTURE(i);
      CHECK(relative_error(a.tensors[i], b.tensors[i]) <= (i % 2 == 0 ? way.key_error : 0.0));
    }
  }
}

TEST_CASE("a later position comes back, where a layout can say it") {
  for (const char* layout : {"npy", "transformers", "llamacpp"}) {
    CAPTURE(layout);
    const Folder folder;
    Meta before = meta(6, DType::kF32);
    before.first_position = 30;
    write_cache(folder / "a.kv", before, ids(6));
    LayoutOptions options;
    options.dtype = DType::kF32;
    export_to(layout, folder / "a.kv", folder / "out", options);
    import_from(layout, folder / "out", folder / "b.kv", import_of(before));
    const Cache a = read_cache(folder / "a.kv"), b = read_cache(folder / "b.kv");
    CHECK(b.meta.first_position == 30);
    CHECK(relative_error(a.tensors[0], b.tensors[0]) < 1e-6);
  }
  const Folder folder;
  Meta later = meta(6, DType::kF32);
  later.first_position = 1;
  write_cache(folder / "a.kv", later, ids(6));
  LayoutOptions blocks;
  blocks.blocks = BlockOptions{.tokens = 2};
  CHECK_THROWS_AS(export_to("vllm", folder / "a.kv", folder / "out", blocks), Error);
}

TEST_CASE("whole blocks only") {
  const Folder folder;
  write_cache(folder / "a.kv", meta(11, DType::kBF16), ids(11));
  LayoutOptions options;
  options.blocks = BlockOptions{.tokens = 4};
  const ExportReport report = export_to("vllm", folder / "a.kv", folder / "out", options);
  CHECK(report.token_count == 8);
  CHECK(report.of_tokens == 11);
  CHECK(only_entry(folder / "out") == folder / ("out/" + vllm_folder(ids(8))));
  options.blocks->tokens = 12;
  CHECK_THROWS_AS(export_to("vllm", folder / "a.kv", folder / "other", options), Error);
}

// Of all heads, and with the heads on three devices; these layers have three.
TEST_CASE("tiles of AMX there and back, in their places") {
  const Folder folder;
  Meta before = meta(32, DType::kBF16);
  before.layers = layers(1, {1, 32, 32, 0, {}});
  write_cache(folder / "a.kv", before, ids(32));
  LayoutOptions options;
  options.blocks = BlockOptions{.tokens = 32, .backend = VllmBackend::kAmx};
  export_to("vllm", folder / "a.kv", folder / "out", options);
  const std::string from = only_entry(folder / "out");
  ImportOptions import = import_of(before);
  import.tokens = ids(32);
  import_from("vllm", from, folder / "b.kv", import, options);
  const Cache a = read_cache(folder / "a.kv"), b = read_cache(folder / "b.kv");
  CHECK(relative_error(a.tensors[0], b.tensors[0]) < 4e-3);
  CHECK(a.tensors[1] == b.tensors[1]);
  // V of token 5 and dimension 9 is the second of its pair, behind K's 1024 elements.
  std::ifstream file(from + "/model.layers.0.self_attn.attn.safetensors", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::uint16_t bits = 0;
  std::memcpy(&bits, &bytes[bytes.size() - 2 * (1024 - (5 / 2 * 32 + 9 * 2 + 1))], sizeof(bits));
  CHECK(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16) == a.tensors[1][5 * 32 + 9]);
  options.blocks->tokens = 16;
  CHECK_THROWS_AS(export_to("vllm", folder / "a.kv", folder / "other", options), Error);
}

TEST_CASE("vLLM's kernels are those of the machine, and files say which") {
  LayoutCache cache;
  cache.layers = layers(1, {1, 64, 64, 0, {}});
  cache.dtype = DType::kBF16;
  CHECK(vllm_backend(cache, 128, true) == VllmBackend::kAmx);
  CHECK(vllm_backend(cache, 128, false) == VllmBackend::kCpu);
  CHECK(vllm_backend(cache, 16, true) == VllmBackend::kCpu);
  cache.dtype = DType::kF32;
  CHECK(vllm_backend(cache, 128, true) == VllmBackend::kCpu);

  const Folder folder;
  Meta before = meta(32, DType::kBF16);
  before.layers = cache.layers;
  write_cache(folder / "a.kv", before, ids(32));
  ImportOptions import = import_of(before);
  import.tokens = ids(32);
  for (const VllmBackend backend : {VllmBackend::kCpu, VllmBackend::kAmx, VllmBackend::kGpu}) {
    CAPTURE(vllm_backend_name(backend));
    LayoutOptions options;
    options.blocks = BlockOptions{.tokens = 32, .backend = backend};
    const std::string store = folder / vllm_backend_name(backend).data();
    CHECK(export_to("vllm", folder / "a.kv", store, options).made_for.empty());
    // Nothing said: as the files say. Another kind or block: refused.
    for (const VllmBackend asked : {VllmBackend::kHere, VllmBackend::kCpu, VllmBackend::kAmx}) {
      options.blocks = BlockOptions{.tokens = 32, .backend = asked};
      const auto read = [&] {
        import_from("vllm", only_entry(store), folder / "b.kv", import, options);
      };
      if (asked == backend || asked == VllmBackend::kHere) {
        read();
        CHECK(read_cache(folder / "b.kv").tensors[1] == read_cache(folder / "a.kv").tensors[1]);
      } else {
        CHECK_THROWS_AS(read(), Error);
      }
    }
    options.blocks = BlockOptions{.tokens = 16, .backend = VllmBackend::kHere};
    CHECK_THROWS_AS(import_from("vllm", only_entry(store), folder / "b.kv", import, options),
                    Error);
  }
  LayoutOptions here;
  here.blocks = BlockOptions{.tokens = 32};
  CHECK(!export_to("vllm", folder / "a.kv", folder / "here", here).made_for.empty());
  here.blocks->backend = VllmBackend::kAmx;
  CHECK_THROWS_AS(export_to("hicache", folder / "a.kv", folder / "other", here), Error);
}

TEST_CASE("stores of pages there and back") {
  for (const char* layout : {"hicache", "lmcache"}) {
    for (const int tp : {1, 3}) {
      CAPTURE(layout);
      CAPTURE(tp);
      const Folder folder;
      Meta before = meta(11, DType::kBF16);
      before.layers = layers(2, {3, 8, 8, 0, {}});
      write_cache(folder / "a.kv", before, ids(11));
      LayoutOptions options;
      options.blocks = BlockOptions{.tokens = 4};
      options.store = StoreOptions{.model_name = "org/tiny", .tp = tp};
      CHECK(export_to(layout, folder / "a.kv", folder / "store", options).token_count == 8);
      const auto count = [&] {
        std::size_t files = 0;
        for (const auto& entry : std::filesystem::directory_iterator(folder / "store")) {
          const std::size_t header = layout == std::string_view("lmcache") ? 28 : 0;
          CHECK(entry.file_size() == header + static_cast<std::size_t>(2 * 2 * 4 * 24 * 2 / tp));
          ++files;
        }
        return files;
      };
      CHECK(count() == static_cast<std::size_t>(2 * tp));
      CHECK_THROWS_AS(export_to(layout, folder / "a.kv", folder / "store", options), Error);
      ImportOptions import = import_of(before);
      CHECK_THROWS_AS(import_from(layout, folder / "store", folder / "b.kv", import, options),
                      Error);
      import.tokens = ids(11);
      import_from(layout, folder / "store", folder / "b.kv", import, options);
      const Cache a = read_cache(folder / "a.kv"), b = read_cache(folder / "b.kv");
      CHECK(b.tokens == ids(8));
      for (std::size_t i = 0; i < b.tensors.size(); ++i) {
        const std::vector<float> first(a.tensors[i].begin(), a.tensors[i].begin() + 8 * 24);
        CHECK(relative_error(first, b.tensors[i]) <= (i % 2 == 0 ? 4e-3 : 0));
      }
      // Another text, another block, other devices: nothing is found, or it does not fit.
      import.tokens->front() += 1;
      CHECK_THROWS_AS(import_from(layout, folder / "store", folder / "c.kv", import, options),
                      Error);
      import.tokens = ids(11);
      options.store->tp = tp == 1 ? 3 : 1;
      CHECK_THROWS_AS(import_from(layout, folder / "store", folder / "c.kv", import, options),
                      Error);
      options.store->tp = tp;
      import.layers[1].geometry.kv_heads = import.layers[0].geometry.kv_heads = 6;
      CHECK_THROWS_AS(import_from(layout, folder / "store", folder / "c.kv", import, options),
                      Error);
      options.store->tp = 2;
      CHECK_THROWS_AS(export_to(layout, folder / "a.kv", folder / "other", options), Error);
    }
  }
}

TEST_CASE("what does not fit is refused") {
  const Folder folder;
  const Meta good = meta(8, DType::kF32);
  write_cache(folder / "a.kv", good, ids(8));
  write_cache(folder / "two.kv", good, ids(8), 2);
  write_cache(folder / "no_ids.kv", good, {});
  for (const Layout& layout : layouts()) {
    if (layout.store) continue;  // above
    CAPTURE(layout.name);
    LayoutOptions options;
    if (layout.blocks) options.blocks = BlockOptions{.tokens = 4};
    const std::string name(layout.name);
    CHECK_THROWS_AS(export_to(name, folder / "two.kv", folder / ("two." + name), options), Error);
    if (layout.needs_tokens) {
      CHECK_THROWS_AS(export_to(name, folder / "no_ids.kv", folder / ("no." + name), options),
                      Error);
    }
    if (!layout.blocks) CHECK(!std::filesystem::exists(folder / ("two." + name)));
    const std::string out = folder / ("out." + name);
    export_to(name, folder / "a.kv", out, options);
    const std::string from = layout.blocks ? only_entry(out) : out;
    const auto refused = [&](const ImportOptions& import) {
      try {
        import_from(name, from, folder / "b.kv", import, options);
      } catch (const Error& error) {
        return error.kind() == ErrorKind::kInput;
      }
      return false;
    };
    ImportOptions import = import_of(good);
    import.layers[1].geometry.kv_heads = 2;
    CHECK(refused(import));
    import = import_of(good);
    import.layers[0].geometry.k_dim = 16;
    CHECK(refused(import));
    import = import_of(good);
    import.layers.push_back({2, import.layers[0].geometry, 0});
    CHECK(refused(import));
    import = import_of(good);
    import.layers.pop_back();
    CHECK(refused(import));
    import = import_of(good);
    import.tokens = ids(7);  // too few
    CHECK(refused(import));
    import = import_of(good);
    import.tokens = std::vector<std::int32_t>(8, 97);  // behind the vocabulary
    CHECK(refused(import));
    if (layout.blocks) {
      import.tokens = std::vector<std::int32_t>(8, 5);
      CHECK(refused(import));
    }
    import = import_of(good);
    import.model.fingerprint = std::string(32, 'c');
    CHECK(refused(import) == (name != "llamacpp"));  // which keeps none
    CHECK(!std::filesystem::exists(folder / "b.kv") == (name != "llamacpp"));
    std::filesystem::remove(folder / "b.kv");
  }
}

TEST_CASE("options that a layout has not") {
  const Folder folder;
  write_cache(folder / "a.kv", meta(4, DType::kBF16), ids(4));
  LayoutOptions options;
  options.rope = false;
  CHECK_THROWS_AS(export_to("transformers", folder / "a.kv", folder / "out", options), Error);
  options = {};
  options.llama = LlamaOptions();
  CHECK_THROWS_AS(export_to("npy", folder / "a.kv", folder / "out", options), Error);
  options = {};
  options.blocks = BlockOptions{.tokens = 4};
  CHECK_THROWS_AS(export_to("llamacpp", folder / "a.kv", folder / "out", options), Error);
  options = {};
  options.dtype = DType::kBF16;
  CHECK_THROWS_AS(export_to("npy", folder / "a.kv", folder / "out", options), Error);
  CHECK(!std::filesystem::exists(folder / "out"));
}

// Two engines computed the same model in f32; only llama.cpp's f16 lies between what they wrote.
TEST_CASE("what llama.cpp wrote is what transformers wrote") {
  const Folder folder;
  import_from("transformers", kEngines + "transformers.safetensors", folder / "a.kv",
              import_of(engine_meta()));
  const Cache a = read_cache(folder / "a.kv");
  CHECK(a.meta.dtype == DType::kF32);
  for (const char* state : {"llama.state", "llama_rows.state"}) {
    CAPTURE(state);
    import_from("llamacpp", kEngines + state, folder / "b.kv", import_of(engine_meta()));
    const Cache b = read_cache(folder / "b.kv");
    CHECK(b.tokens == a.tokens);
    CHECK(b.meta.dtype == DType::kF16);
    for (std::size_t i = 0; i < a.tensors.size(); ++i) {
      CAPTURE(i);
      CHECK(relative_error(a.tensors[i], b.tensors[i]) < 1e-3);
    }
    // And out again as it was but for the bits that f16 takes.
    LayoutOptions options;
    options.llama = LlamaOptions{.version = 3, .columns = state == std::string("llama.state")};
    std::filesystem::remove(folder / "again");
    export_to("llamacpp", folder / "b.kv", folder / "again", options);
    CHECK(std::filesystem::file_size(folder / "again") ==
          std::filesystem::file_size(kEngines + state));
    import_from("llamacpp", folder / "again", folder / "c.kv", import_of(engine_meta()));
    const Cache c = read_cache(folder / "c.kv");
    for (std::size_t i = 0; i < b.tensors.size(); ++i) {
      CHECK(relative_error(b.tensors[i], c.tensors[i]) < (i % 2 == 0 ? 1e-3 : 1e-30));
    }
  }
}
