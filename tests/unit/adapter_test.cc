#include "adapter_files.hh"
#include "error_kind.hh"
#include "kv/checkpoint/card.hh"
#include "kv/checkpoint/lora_checkpoint.hh"
#include "random_checkpoint.hh"

#include <doctest/doctest.h>

#include <limits>

using namespace kv;

namespace {

const std::string kQ = "self_attn.q_proj", kDown = "mlp.down_proj";

// Rank 4 on q and down of layers 1 and 2 of RandomCheckpoint's model.
struct Written {
  ScratchFolder folder;
  AdapterConfig config{.rank = 4, .alpha = 6, .targets = {"down_proj", "q_proj"}, .layers = {1, 2}};
  std::vector<TestTensor> tensors;
  std::map<std::string, std::string> metadata;

  Written() {
    std::mt19937 random(3);
    for (const std::int64_t layer : config.layers) {
      tensors.push_back(random_tensor(lora_name(layer, kQ, 'A'), {4, 48}, random));
      tensors.push_back(random_tensor(lora_name(layer, kQ, 'B'), {96, 4}, random));
      tensors.push_back(random_tensor(lora_name(layer, kDown, 'A'), {4, 112}, random));
      tensors.push_back(random_tensor(lora_name(layer, kDown, 'B'), {48, 4}, random));
    }
  }
  TestTensor& tensor(const std::string& name) {
    for (TestTensor& each : tensors) {
      if (each.name == name) return each;
    }
    throw std::logic_error("no tensor " + name);
  }
  void write(const std::string& json = "") const {
    put_file(folder.path + "/adapter_config.json",
             as_bytes(json.empty() ? adapter_config_json(config) : json));
    put_safetensors(folder.path + "/adapter_model.safetensors", tensors, metadata);
  }
  std::unique_ptr<LoraCheckpoint> open() const {
    return std::make_unique<LoraCheckpoint>(std::make_unique<RandomCheckpoint>(RandomShape{}),
                                            folder.path);
  }
  // The message with which it is refused.
  std::string refusal(const std::string& json = "") const {
    write(json);
    try {
      open();
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
      const std::string message = error.what();
      CHECK(message.find('\n') == std::string::npos);
      return message;
    }
    FAIL("accepted");
    return "";
  }
};

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

std::vector<float> matrix(const Checkpoint& checkpoint, const std::string& name) {
  const WeightView& view = checkpoint.weight(name);
  std::vector<float> values(static_cast<std::size_t>(view.count()));
  checkpoint.read_f32(view, 0, values);
  return values;
}

}  // namespace

TEST_CASE("an adapter is merged row by row in f32") {
  Written written;
  written.write();
  const auto merged = written.open();
  const RandomCheckpoint base{RandomShape{}};
  const std::string name = "model.layers.1." + kQ + ".weight";
  const std::vector<float> plain = matrix(base, name), changed = matrix(*merged, name);
  const TestTensor& a = written.tensor(lora_name(1, kQ, 'A'));
  const TestTensor& b = written.tensor(lora_name(1, kQ, 'B'));
  for (std::size_t i = 0; i < 96; ++i) {
    for (std::size_t j = 0; j < 48; ++j) {
      double delta = 0;
      for (std::size_t k = 0; k < 4; ++k) {
        delta += static_cast<double>(b.values[i * 4 + k]) * a.values[k * 48 + j];
      }
      CHECK(changed[i * 48 + j] == doctest::Approx(plain[i * 48 + j] + 1.5 * delta).epsilon(1e-5));
    }
  }
  std::vector<float> rows(3 * 48);
  merged->read_f32(merged->weight(name), 50 * 48, rows);
  CHECK(std::equal(rows.begin(), rows.end(), changed.begin() + 50 * 48));
  for (const char* untouched : {"model.layers.0.self_attn.q_proj.weight", "model.norm.weight",
                                "model.layers.1.self_attn.k_proj.weight"}) {
    CHECK(matrix(base, untouched) == matrix(*merged, untouched));
  }
}

TEST_CASE("an adapter has a fingerprint of its own and names its base") {
  Written written;
  written.write();
  const auto merged = written.open();
  const std::string first = merged->fingerprint();
  CHECK(first.size() == 32);
  CHECK(first == written.open()->fingerprint());
  REQUIRE(merged->adapter());
  CHECK(merged->adapter()->base_fingerprint == "random");
  CHECK(merged->adapter()->first_layer == 1);
  CHECK(merged->adapter()->last_layer == 2);
  CHECK(merged->adapter()->parameters == 2 * (4 * 48 + 96 * 4 + 4 * 112 + 48 * 4));
  const ModelIdentity identity = identity_of(*merged, "");
  CHECK(identity.adapter == merged->adapter()->fingerprint);
  CHECK(identity.base_fingerprint == "random");
  CHECK(has(card_text(*merged), "rank 4, alpha 6"));
  CHECK(has(card_json(*merged), merged->adapter()->fingerprint));
  written.tensors[0].values[0] += 0.01f;
  written.write();
  CHECK(first != written.open()->fingerprint());
  written.tensors[0].values[0] -= 0.01f;
  written.config.alpha = 7;
  written.write();
  CHECK(first != written.open()->fingerprint());
}

TEST_CASE("layers before the first adapted one are the base's") {
  Written written;
  written.write();
  const auto merged = written.open();
  const RandomCheckpoint base{RandomShape{}};
  CHECK(first_different_layer(base, base) == 3);
  CHECK(first_different_layer(base, *merged) == 1);
  CHECK(first_different_layer(*merged, *merged) == 3);
  const RandomCheckpoint wider{RandomShape{.hidden = 96}};
  CHECK(kind_of([&] { first_different_layer(base, wider); }) == ErrorKind::kInput);
}

TEST_CASE("adapters that do not fit are refused") {
  const std::string q = lora_name(1, kQ, 'A');
  {
    Written written;
    TestTensor& wrong = written.tensor(q);
    wrong.shape = {4, 47};
    wrong.values.resize(4 * 47);
    CHECK(has(written.refusal(), "is 4x47, but model.layers.1.self_attn.q_proj.weight needs 4x48"));
  }
  {
    Written written;
    TestTensor& wrong = written.tensor(q);
    wrong.shape = {3, 48};
    wrong.values.resize(3 * 48);
    CHECK(has(written.refusal(), "is 3x48"));
  }
  {
    Written written;
    written.tensor(q).shape = {4 * 48};
    CHECK(has(written.refusal(), "is no matrix"));
  }
  for (const char* name : {"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight",
                           "base_model.model.model.layers.1.self_attn.w_pack.lora_A.weight",
                           "base_model.model.model.layers.1.input_layernorm.lora_A.weight",
                           "base_model.model.model.embed_tokens.lora_A.weight"}) {
    Written written;
    written.tensor(q).name = name;
    CHECK(has(written.refusal(), "has no such matrix"));
  }
  for (const char* name :
       {"model.layers.1.self_attn.q_proj.weight",
        "base_model.model.model.layers.1.self_attn.q_proj.lora_embedding_A",
        "base_model.model.model.layers.1.self_attn.q_proj.lora_magnitude_vector"}) {
    Written written;
    written.tensor(q).name = name;
    CHECK(has(written.refusal(), "is no lora_A or lora_B"));
  }
  {
    Written written;
    written.tensor(q).name = lora_name(1, "self_attn.k_proj", 'A');
    CHECK(has(written.refusal(), "is none that adapter_config.json names"));
  }
  {
    Written written;
    std::erase_if(written.tensors, [&](const TestTensor& t) { return t.name == q; });
    CHECK(has(written.refusal(),
              "the lora_A of 'model.layers.1.self_attn.q_proj.weight' is missing"));
  }
  {
    Written written;
    std::erase_if(written.tensors, [&](const TestTensor& t) {
      return t.name.find("layers.2.mlp") != std::string::npos;
    });
    CHECK(has(written.refusal(), "names 'model.layers.2.mlp.down_proj'"));
  }
  {
    Written written;
    written.tensors.clear();
    CHECK(has(written.refusal(), "holds no tensors"));
  }
  for (const float bad : {std::numeric_limits<float>::infinity(), NAN}) {
    Written written;
    written.tensor(q).values[7] = bad;
    CHECK(has(written.refusal(), "not finite"));
  }
  {
    Written written;
    written.metadata = {{"base_fingerprint", "another"}};
    CHECK(has(written.refusal(), "made for a model with fingerprint another"));
  }
}

TEST_CASE("adapter files that are missing or cut are refused") {
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"}) {
    Written written;
    written.write();
    std::filesystem::remove(written.folder.path + "/" + name);
    CHECK(kind_of([&] { written.open(); }) == ErrorKind::kInput);
  }
  Written written;
  written.write();
  const std::string path = written.folder.path + "/adapter_model.safetensors";
  const auto size = std::filesystem::file_size(path);
  for (const std::uintmax_t left : {std::uintmax_t{0}, std::uintmax_t{7}, size / 2, size - 1}) {
    std::filesystem::resize_file(path, left);
    CHECK(kind_of([&] { written.open(); }) == ErrorKind::kInput);
    written.write();
  }
}

TEST_CASE("adapter configurations") {
  const std::string tail = R"("r":4,"lora_alpha":6,"target_modules":["q_proj","down_proj"]})";
  const std::string good = R"({"peft_type":"LORA",)";
  const AdapterConfig round = parse_adapter_config(
      adapter_config_json({.rank = 3, .alpha = 5, .targets = {"k_proj"}, .layers = {4, 7}}), "x");
  CHECK(round.rank == 3);
  CHECK(round.alpha == 5);
  CHECK(round.targets == std::vector<std::string>{"k_proj"});
  CHECK(round.layers == std::vector<std::int64_t>{4, 7});
  CHECK(round.covers("model.layers.4.self_attn.k_proj"));
  CHECK_FALSE(round.covers("model.layers.5.self_attn.k_proj"));
  CHECK_FALSE(round.covers("model.layers.4.self_attn.v_proj"));
  // As PEFT writes them, with nulls, and one layer or an expression instead of lists.
  const AdapterConfig peft = parse_adapter_config(
      R"({"peft_type":"LORA","r":4,"lora_alpha":8,"use_rslora":true,"modules_to_save":null,)"
      R"("alpha_pattern":{},"layers_to_transform":2,"target_modules":".*q_proj","new":[1]})",
      "x");
  CHECK(peft.scale(4) == 4);
  CHECK(peft.layers == std::vector<std::int64_t>{2});
  CHECK(peft.targets.empty());
  for (const char* bad :
       {"", "[]", "{", R"({"peft_type":"IA3",)", R"({"peft_type":7,)", "{",
        R"({"peft_type":"LORA","use_dora":true,)", R"({"peft_type":"LORA","bias":"all",)",
        R"({"peft_type":"LORA","modules_to_save":["lm_head"],)",
        R"({"peft_type":"LORA","alpha_pattern":{"q":1},)",
        R"({"peft_type":"LORA","fan_in_fan_out":true,)", R"({"peft_type":"LORA","use_rslora":1,)",
        R"({"peft_type":"LORA","layers_to_transform":[-1],)",
        R"({"peft_type":"LORA","layers_to_transform":["a"],)"}) {
    CAPTURE(bad);
    const std::string text = bad;
    CHECK(kind_of([&] { parse_adapter_config(text.ends_with(',') ? text + tail : text, "x"); }) ==
          ErrorKind::kInput);
  }
  for (const char* bad :
       {R"("r":0,"lora_alpha":6})", R"("r":4})", R"("lora_alpha":4})",
        R"("r":18446744073709551615,"lora_alpha":6})", R"("r":1e3,"lora_alpha":6})",
        R"("r":4,"lora_alpha":"6"})", R"("r":4,"lora_alpha":1e999})",
        R"("r":4,"lora_alpha":6,"target_modules":[]})",
        R"("r":4,"lora_alpha":6,"target_modules":[1]})",
        R"("r":4,"lora_alpha":6,"target_modules":{}})"}) {
    CAPTURE(bad);
    CHECK(kind_of([&] { parse_adapter_config(good + bad, "x"); }) == ErrorKind::kInput);
  }
  CHECK(layer_of_weight("model.layers.12.mlp") == 12);
  CHECK(layer_of_weight("model.layers.x.mlp") == -1);
  CHECK(layer_of_weight("model.layers.3") == -1);
  CHECK(layer_of_weight("model.norm.weight") == -1);
}

TEST_CASE("a model and an adapter by name") {
  CHECK(kind_of([] { Checkpoint::open("no-such-model+no-such-adapter"); }) == ErrorKind::kDevice);
  CHECK(kind_of([] { Checkpoint::open("smollm2+"); }) == ErrorKind::kUsage);
}
