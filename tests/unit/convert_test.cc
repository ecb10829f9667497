// Caches to other layouts and back, files that engines wrote, and the keys they look under.
#include "convert_samples.hh"
#include "kv/convert/ids.hh"
#include "kv/convert/key_fields.hh"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

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

TEST_CASE("keys as the engines make them") {
  const auto read = [](const char* name) {
    std::ifstream file(kEngines + name);
    return nlohmann::json::parse(file);
  };
  const nlohmann::json plain = read("keys.json"), vllm = read("vllm_keys.json"),
                       lmcache = read("lmcache_keys.json");
  const auto ids_there = plain["ids"].get<std::vector<std::int32_t>>();
  struct Golden {
    const char* family;
    std::int64_t block;
    const char* seed;
    const nlohmann::json& keys;
  };
  for (const Golden& golden :
       {Golden{"vllm", 128, "", plain["vllm"]}, Golden{"hicache", 64, "", plain["hicache"]},
        Golden{"vllm-blocks", 16, "", vllm["vllm-blocks"]},
        Golden{"vllm-blocks", 16, "0", vllm["vllm-blocks 0"]},
        Golden{"vllm-cbor", 16, "", vllm["vllm-cbor"]},
        Golden{"vllm-cbor", 16, "0", vllm["vllm-cbor 0"]},
        Golden{"lmcache", 256, "", lmcache["lmcache"]},
        Golden{"lmcache", 16, "0", lmcache["lmcache 16"]},
        Golden{"lmcache-mp", 256, "", lmcache["lmcache-mp"]}}) {
    CAPTURE(golden.family);
    CAPTURE(golden.block);
    const KeyFamily& family = key_family_by_name(golden.family);
    const std::vector<EngineKey> keys = engine_keys(family, ids_there, golden.block, golden.seed);
    const auto wanted = golden.keys.get<std::vector<std::string>>();
    REQUIRE(keys.size() == wanted.size());
    for (std::size_t i = 0; i < keys.size(); ++i) CHECK(keys[i].key == wanted[i]);
    CHECK(keys.back().tokens == 600 / golden.block * golden.block);
    CHECK(engine_keys(family, ids(golden.block - 1), golden.block, "").empty());
    // Another seed changes all, where there is one.
    CHECK((engine_keys(family, ids_there, golden.block, "other") == keys) == !family.seeded());
  }
}

// What the classes of vLLM that name files and hand out pages made of a cache, and those of LMCache
// that name files and describe chunks, is what kvconvert makes of it.
TEST_CASE("stores as the engines' own classes have them") {
  const Folder folder;
  Meta tiny;
  tiny.model = {"tiny", "llama", std::string(32, 'a'), "", "", ""};
  tiny.layers = layers(3, {2, 16, 16, 0, {}});
  ImportOptions import = import_of(tiny);
  import_from("transformers", kEngines + "vllm_tier.safetensors", folder / "a.kv", import);
  const Cache wanted = read_cache(folder / "a.kv");
  struct Store {
    const char *layout, *folder;
    int tp;
    std::int64_t tokens;
  };
  for (const Store& store :
       {Store{"vllm-tier", "vllm_tier", 2, 32}, Store{"lmcache", "lmcache_fs", 2, 32},
        Store{"lmcache-gds", "lmcache_gds", 1, 16}}) {
    CAPTURE(std::string(store.layout));
    LayoutOptions options;
    options.blocks = BlockOptions{.tokens = 16};
    options.store = StoreOptions{.model_name = "org/tiny", .tp = store.tp};
    import.tokens = wanted.tokens;
    import_from(store.layout, kEngines + store.folder, folder / "b.kv", import, options);
    const Cache found = read_cache(folder / "b.kv");
    REQUIRE(found.meta.token_count == store.tokens);
    for (std::size_t i = 0; i < found.tensors.size(); ++i) {
      CAPTURE(i);
      const auto begin = wanted.tensors[i].begin();
      CHECK(std::vector(begin, begin + store.tokens * 32) == found.tensors[i]);
    }
    // Out again: the same names, headers and descriptions; keys are turned back and forth.
    const std::string out = folder / store.folder;
    export_to(store.layout, folder / "b.kv", out, options);
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(kEngines + store.folder)) {
      const std::string name =
          std::filesystem::relative(entry.path(), kEngines + store.folder).string();
      if (!entry.is_regular_file() || name.ends_with("7314f3cefde4/config.json")) continue;
      CAPTURE(name);
      REQUIRE(std::filesystem::exists(out + "/" + name));
      CHECK(std::filesystem::file_size(out + "/" + name) == entry.file_size());
      const auto bytes_of = [](const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        return std::string((std::istreambuf_iterator<char>(file)), {});
      };
      const std::string a = bytes_of(entry.path()), b = bytes_of(out + "/" + name);
      const std::string_view layout = store.layout;
      if (layout == "lmcache") CHECK(a.substr(0, 28) == b.substr(0, 28));
      if (name.ends_with(".json")) CHECK(a == b);
      if (layout == "lmcache-gds") {  // Python puts blanks into JSON
        CHECK(a.substr(0, 8) == b.substr(0, 8));
        CHECK(nlohmann::json::parse(a.substr(8, 4088)) == nlohmann::json::parse(b.substr(8, 4088)));
      }
    }
    import_from(store.layout, out, folder / "c.kv", import, options);
    const Cache again = read_cache(folder / "c.kv");
    for (std::size_t i = 0; i < found.tensors.size(); ++i) {
      CHECK(relative_error(found.tensors[i], again.tensors[i]) <= (i % 2 == 0 ? 4e-3 : 0));
    }
  }
  // Of one worker vLLM names another folder.
  LayoutOptions options;
  options.blocks = BlockOptions{.tokens = 16};
  options.store = StoreOptions{.model_name = "org/tiny"};
  export_to("vllm-tier", folder / "a.kv", folder / "one", options);
  CHECK(std::filesystem::exists(folder / "one/org_tiny_7314f3cefde4_r0"));
}

TEST_CASE("what of two prompts and of two names differs") {
  const Folder folder;
  const auto prompt = [](std::int64_t tokens, DType dtype) {
    KeyedPrompt one{"a", ids(tokens), meta(tokens, dtype), 0, ""};
    return one;
  };
  const auto fields = [](const KeyedPrompt& a, const KeyedPrompt& b) {
    std::string all;
    for (const KeyDifference& one : key_differences(a, b)) all += std::string(one.field) + " ";
    return all;
  };
  const KeyedPrompt a = prompt(600, DType::kBF16);
  KeyedPrompt b = a;
  CHECK(fields(a, b).empty());
  b.meta->dtype = DType::kF16;
  b.block = 32;
  b.seed = "7";
  CHECK(fields(a, b) == "dtype block seed ");
  b = a;
  b.meta->model.fingerprint = std::string(32, 'c');
  b.meta->layers.pop_back();
  CHECK(fields(a, b) == "model layout ");
  // The folder of vLLM's connector shows neither; LMCache's names have the model.
  const KeyHits blind = key_hits(key_family_by_name("vllm"), a, b, key_differences(a, b));
  CHECK(blind.tokens == 512);
  CHECK(blind.unnoticed.size() == 2);
  const KeyHits apart = key_hits(key_family_by_name("lmcache"), a, b, key_differences(a, b));
  CHECK(apart.tokens == 0);
  CHECK(apart.kept_apart == std::vector<std::string_view>{"model"});
  b = a;
  b.block = 8;
  CHECK(key_hits(key_family_by_name("hicache"), a, b, key_differences(a, b)).keys == 0);

  using Parts = std::vector<NamePart>;
  CHECK(store_name_parts("x/org-SEP-tiny@2@1@9ab@bfloat16@user%7.data") ==
        Parts{{"engine", "lmcache"},
              {"model", "org-SEP-tiny"},
              {"device", "1 of 2"},
              {"hash", "9ab"},
              {"dtype", "bfloat16"},
              {"tag user", "7"}});
  CHECK(store_name_parts("org-SEP-tiny@0x04010201@0@ff@secret.data").back() ==
        NamePart{"salt", "secret"});
  const std::string hash(64, 'e');
  CHECK(store_name_parts(hash + "_org-my_model_0_2.bin") == Parts{{"engine", "hicache"},
                                                                  {"model", "org-my_model"},
                                                                  {"device", "0 of 2"},
                                                                  {"hash", hash}});
  CHECK(store_name_parts("s/org_tiny_7314f3cefde4_r0/eee/ee_g0/" + hash + ".bin") ==
        Parts{{"engine", "vllm-tier"},
              {"model", "org_tiny"},
              {"settings (config.json)", "7314f3cefde4"},
              {"device", "0"},
              {"group", "0"},
              {"hash", hash}});
  for (const char* bad : {"", "/", "report.kv", "a@b", "_r0/a/b/c", "%", "a_b_c_d"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(store_name_parts(bad), Error);
  }
}

TEST_CASE("ids that users give") {
  const Folder folder;
  const auto read = [&](const char* text) {
    std::ofstream(folder / "ids") << text;
    return read_ids(Input::open(folder / "ids"));
  };
  const std::vector<std::int32_t> wanted = {1, 20, 300};
  for (const char* good :
       {"1 20 300", "1\n20\n300\n", " [1, 20, 300]\n", "1,20,300", "[1 20 300]"}) {
    CAPTURE(good);
    CHECK(read(good) == wanted);
  }
  for (const char* bad : {"", " ", "[]", "[1", "1]", "1,", "1,,2", ",1", "1.5", "-1", "1 x", "1x",
                          "2147483648", "[1] 2", "[[1]]"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(read(bad), Error);
  }
}
