// The keys that engines look under and the stores named by them, what parts two prompts, and ids
// that users give.
#include "convert_samples.hh"
#include "kv/convert/ids.hh"
#include "kv/convert/key_fields.hh"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace kv;
using namespace kv::sample;

namespace {

const std::string kEngines = KV_TESTS "/golden/engines/";

}  // namespace

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
