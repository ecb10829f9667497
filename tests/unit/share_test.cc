#include "kv/share/share.hh"

#include "adapter_files.hh"
#include "error_kind.hh"
#include "kv/base/hash.hh"
#include "kv/checkpoint/card.hh"
#include "kv/checkpoint/lora_checkpoint.hh"
#include "kv/container/reader.hh"
#include "kv/share/candidates.hh"
#include "kv/share/pair_run.hh"
#include "random_checkpoint.hh"

#include <doctest/doctest.h>

#include <cmath>

using namespace kv;

namespace {

constexpr std::int64_t kTokens = 70;

std::vector<std::int32_t> some_ids(std::int64_t count, std::int64_t by = 31) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(i * by % 97));
  return ids;
}

// Without a tokenizer, which sharing does not ask for.
Session session_of(std::unique_ptr<Checkpoint> checkpoint) {
  Session session;
  session.checkpoint = std::move(checkpoint);
  session.identity = identity_of(*session.checkpoint, "");
  // Fingerprints of files; a random model has none.
  Fingerprint hash;
  hash.add_text(session.identity.fingerprint);
  session.identity.fingerprint = hash.hex();
  session.identity.base_fingerprint = "";
  session.model =
      Model::load(*session.checkpoint, {.compute = Compute::kF32, .device = Device::kCpu});
  return session;
}

// A base, and a fine-tune of it in layers 2 and 3 of 5, or in all.
struct Pair {
  ScratchFolder folder;
  Session base, tuned;

  explicit Pair(std::int64_t first = 2) {
    const RandomShape shape{.layers = 5};
    std::mt19937 random(11);
    AdapterConfig config{.rank = 4, .alpha = 8, .targets = {"q_proj", "down_proj", "v_proj"}};
    std::vector<TestTensor> tensors;
    for (std::int64_t layer = first; layer < (first == 0 ? 5 : 4); ++layer) {
      config.layers.push_back(layer);
      for (const auto& [module, rows, width] : {std::tuple("self_attn.q_proj", 96, 48),
                                                {"self_attn.v_proj", 32, 48},
                                                {"mlp.down_proj", 48, 112}}) {
        tensors.push_back(random_tensor(lora_name(layer, module, 'A'), {4, width}, random));
        tensors.push_back(random_tensor(lora_name(layer, module, 'B'), {rows, 4}, random));
      }
    }
    put_file(folder.path + "/adapter_config.json", as_bytes(adapter_config_json(config)));
    put_safetensors(folder.path + "/adapter_model.safetensors", tensors);
    base = session_of(std::make_unique<RandomCheckpoint>(shape));
    tuned = session_of(
        std::make_unique<LoraCheckpoint>(std::make_unique<RandomCheckpoint>(shape), folder.path));
  }

  // Of the session's model, with E at these layers.
  std::string cache(const Session& session, const std::vector<std::uint32_t>& hidden,
                    const std::string& name) const {
    Meta meta;
    meta.model = session.identity;
    meta.layers = layers_of(session.model->config());
    meta.dtype = DType::kF32;
    meta.token_count = kTokens;
    meta.hidden_layers = hidden;
    meta.hidden = hidden.empty() ? 0 : session.model->config().hidden;
    ForwardOptions options{.logits = LogitRows::kNone};
    options.hidden_layers.assign(hidden.begin(), hidden.end());
    KvCache kept = session.model->make_cache({.capacity = kTokens, .keep_unrotated_keys = true});
    const std::vector<std::int32_t> ids = some_ids(kTokens);
    const ForwardResult result = session.model->forward(ids, kept, options);
    const std::string path = folder.path + "/" + name;
    Output output = Output::create(path, true);
    Writer writer(output);
    writer.begin_member(meta, ids);
    std::size_t next_hidden = 0;
    for (const auto& [layer, kind] : meta.tensors()) {
      TensorView view = meta.shape_of({.kind = kind,
                                       .dtype = DType::kF32,
                                       .layer = layer,
                                       .token_count = static_cast<std::uint32_t>(kTokens)});
      Bytes bytes(static_cast<std::size_t>(kTokens) * view.row_bytes());
      if (kind == format::Kind::kE) {
        const auto& rows = result.hidden[next_hidden++];
        bytes.assign(std::as_bytes(std::span(rows)).begin(), std::as_bytes(std::span(rows)).end());
      } else {
        kept.save(layer, kind == format::Kind::kK ? CachePart::kKeys : CachePart::kValues, 0,
                  kTokens, DType::kF32, bytes);
      }
      view.bytes = bytes;
      writer.write_raw(kind, layer, view);
    }
    writer.end_member();
    output.commit();
    return path;
  }

  std::string shared(const std::string& from, ShareOptions options) const {
    const std::string path = folder.path + "/shared.kv";
    Output output = Output::create(path, true);
    Writer writer(output);
    Share share(Input::open(from), tuned, std::move(options));
    share.run(writer);
    output.commit();
    return path;
  }
};

// By (layer, kind): all values.
std::map<std::pair<std::uint32_t, char>, std::vector<float>> tensors_of(const std::string& path,
                                                                        Meta* meta = nullptr) {
  std::map<std::pair<std::uint32_t, char>, std::vector<float>> found;
  Reader reader(Input::open(path));
  const std::optional<Meta> of = reader.next_member();
  REQUIRE(of);
  if (meta) *meta = *of;
  while (const std::optional<Tile> tile = reader.next_tile()) {
    const std::span<const float> values = tile->view(*of).as<float>();
    auto& into = found[{tile->header.layer, static_cast<char>(tile->header.kind)}];
    into.insert(into.end(), values.begin(), values.end());
  }
  return found;
}

double layer_difference(const std::string& a, const std::string& b, std::uint32_t layer) {
  const auto x = tensors_of(a), y = tensors_of(b);
  double largest = 0;
  for (const char kind : {'K', 'V'}) {
    const auto &p = x.at({layer, kind}), &q = y.at({layer, kind});
    REQUIRE(p.size() == q.size());
    for (std::size_t i = 0; i < p.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(p[i]) - q[i]));
    }
  }
  return largest;
}

SharePlan some_plan() {
  SharePlan plan;
  plan.layers = 30;
  plan.from.fingerprint = "a";
  plan.first_different = 3;
  plan.sensitivity = {0, 1, 2};
  plan.why = "so";
  for (const auto& [first, end, mean] :
       {std::tuple(0, 0, 0.5), {20, 25, 0.2}, {15, 25, 0.04}, {15, 30, 0.001}}) {
    plan.frontier.push_back({.group = {first, end},
                             .chosen_by = {mean, mean / 2, 2 * mean},
                             .divergence = {mean, mean / 2, 2 * mean}});
  }
  plan.chosen = 2;
  return plan;
}

}  // namespace

TEST_CASE("all layers recomputed are a prefill, and need no E") {
  for (const std::int64_t first : {0, 2}) {
    const Pair pair(first);
    const std::string base = pair.cache(pair.base, {}, "base.kv");
    const std::string own = pair.cache(pair.tuned, {}, "own.kv");
    const std::string shared = pair.shared(base, {.group = {0, 5}});
    for (std::uint32_t layer = 0; layer < 5; ++layer) {
      CHECK(layer_difference(shared, own, layer) < 1e-4);
    }
    CHECK(layer_difference(base, own, 4) > 1e-2);
    Meta meta;
    tensors_of(shared, &meta);
    CHECK(meta.model == pair.tuned.identity);
    CHECK(meta.hidden_layers.empty());
    CHECK(meta.extra_json.find("\"recomputed\":[0,5]") != std::string::npos);
  }
}

TEST_CASE("from the first adapted layer to the last it is exact") {
  const Pair pair;
  CHECK(first_different_layer(*pair.base.checkpoint, *pair.tuned.checkpoint) == 2);
  const std::string base = pair.cache(pair.base, {2}, "base.kv");
  const std::string own = pair.cache(pair.tuned, {}, "own.kv");
  const std::string shared = pair.shared(base, {.group = {2, 5}});
  for (std::uint32_t layer = 0; layer < 5; ++layer) {
    CHECK(layer_difference(shared, own, layer) < 1e-4);
  }
}

TEST_CASE("what is outside the group comes as it is, what is in it by B's weights from A's E") {
  const Pair pair(0);
  const std::string base = pair.cache(pair.base, {0, 1, 3}, "base.kv");
  const std::string own = pair.cache(pair.tuned, {}, "own.kv");
  const std::string shared = pair.shared(base, {.group = {1, 3}});
  for (const std::uint32_t layer : {0u, 3u, 4u}) CHECK(layer_difference(shared, base, layer) == 0);
  for (const std::uint32_t layer : {1u, 2u}) {
    CHECK(layer_difference(shared, base, layer) > 1e-3);
    CHECK(layer_difference(shared, own, layer) > 1e-3);
  }
  const std::string none = pair.shared(base, {});
  for (std::uint32_t layer = 0; layer < 5; ++layer) {
    CHECK(layer_difference(none, base, layer) == 0);
  }
}

TEST_CASE("E that the file does not keep can be made by its model; pipes give the same") {
  const Pair pair(0);
  const std::string with = pair.cache(pair.base, {2}, "with.kv");
  const std::string without = pair.cache(pair.base, {}, "without.kv");
  const auto wanted = tensors_of(pair.shared(with, {.group = {2, 4}}));
  CHECK(kind_of([&] { pair.shared(without, {.group = {2, 4}}); }) == ErrorKind::kInput);
  const auto made = tensors_of(pair.shared(without, {.group = {2, 4}, .hidden_from = &pair.base}));
  for (const auto& [tensor, values] : wanted) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      CHECK(std::abs(values[i] - made.at(tensor)[i]) < 1e-4);
    }
  }
  // /dev/stdin as a pipe is the business of the tool's test; here a source without an index.
  const auto slow = tensors_of(pair.shared(with, {.group = {2, 4}, .bytes_per_s = 2e6}));
  CHECK(slow == wanted);
}

TEST_CASE("caches that cannot be shared are refused") {
  const Pair pair;
  const std::string base = pair.cache(pair.base, {2}, "base.kv");
  const auto kind = [&](ShareOptions options) {
    return kind_of([&] { pair.shared(base, std::move(options)); });
  };
  SharePlan plan;
  plan.from.fingerprint = std::string(32, 'a');
  CHECK(kind({.group = {2, 5}, .plan = &plan}) == ErrorKind::kInput);
  plan.from = pair.base.identity;
  pair.shared(base, {.group = {2, 5}, .plan = &plan});
  CHECK(kind({.group = {1, 5}}) == ErrorKind::kInput);  // E at layer 1
  CHECK(kind({.group = {2, 6}}) == ErrorKind::kUsage);
  CHECK(kind({.group = {2, 5}, .dtype = DType::kI8}) == ErrorKind::kUsage);
  const Session wider = session_of(std::make_unique<RandomCheckpoint>(RandomShape{.layers = 4}));
  CHECK(kind_of([&] { Share(Input::open(base), wider, {}); }) == ErrorKind::kInput);
  std::filesystem::resize_file(base, std::filesystem::file_size(base) - 200);
  CHECK(kind({.group = {2, 5}}) == ErrorKind::kInput);
}

TEST_CASE("one prompt through two models") {
  for (const std::int64_t first : {0, 2}) {
    const Pair pair(first);
    const PairPrompt prompt{some_ids(40), some_ids(6, 17), some_ids(3, 5), "x"};
    PairRun run(pair.base, pair.tuned, prompt, 8);
    const std::vector<LayerGroup> groups = {{0, 0}, {first, 5}, {2, 4}, {3, 5}, {2, 5}, {3, 4}};
    const std::vector<TokenDivergences> together = run.of_groups(groups);
    CHECK(together[0].mean() > 1e-4);
    CHECK(together[1].mean() < 1e-6);
    if (first == 2) CHECK(together[4].mean() < 1e-6);
    CHECK(together[1].same == run.answer_tokens());
    // The same one by one, also behind other work.
    for (std::size_t i = groups.size(); i-- > 0;) {
      const TokenDivergences alone = run.of_groups({&groups[i], 1})[0];
      CHECK(alone.mean() == doctest::Approx(together[i].mean()).epsilon(1e-3));
    }
    const std::vector<double> sensitivity = run.sensitivities(first);
    REQUIRE(sensitivity.size() == 5);
    if (first == 2) CHECK(sensitivity[1] == 0);
    CHECK(sensitivity[3] > 1e-6);
    PairRun again(pair.base, pair.tuned, prompt, 8);
    CHECK(again.sensitivities(first)[3] == doctest::Approx(sensitivity[3]).epsilon(1e-3));
    // A model beside itself: nothing but f32's rounding, and what a longer answer has room for does
    // not matter.
    for (const std::int64_t room : {8, 200}) {
      PairRun same(pair.tuned, pair.tuned, prompt, room);
      const TokenDivergences found = same.of_groups({groups.data(), 1})[0];
      CHECK(found.mean() < 1e-6);
      CHECK(found.same == same.answer_tokens());
    }
  }
}

TEST_CASE("groups that are tried, and those worth having") {
  const std::vector<LayerGroup> coarse = coarse_groups(30, 0, 5);
  CHECK(coarse.size() == 1 + 21);
  CHECK(std::ranges::count(coarse, LayerGroup{0, 30}) == 1);
  const std::vector<LayerGroup> upper = coarse_groups(30, 17, 5);
  for (const LayerGroup& group : upper) CHECK((group.count() == 0 || group.first >= 17));
  CHECK(std::ranges::count(upper, LayerGroup{17, 30}) == 1);
  CHECK(coarse_groups(3, 3, 1).size() == 1);
  const std::vector<TriedGroup> tried = {{{0, 0}, {1, 1}},       {{5, 10}, {0.6, 0.8}},
                                         {{10, 15}, {0.5, 0.5}}, {{5, 15}, {0.9, 0.9}},
                                         {{10, 25}, {0.1, 0.1}}, {{0, 30}, {0, 0}}};
  const std::vector<LayerGroup> frontier = frontier_of(tried);
  CHECK(frontier == std::vector<LayerGroup>{{0, 0}, {10, 15}, {10, 25}, {0, 30}});
  const std::vector<LayerGroup> refined = refined_groups(tried, frontier, 30, 9, 5);
  CHECK(std::ranges::count(refined, LayerGroup{9, 15}) == 1);
  CHECK(std::ranges::count(refined, LayerGroup{10, 17}) == 1);
  for (const LayerGroup& group : refined) {
    CHECK(group.first >= 9);
    CHECK(group.end <= 30);
    CHECK(std::ranges::count(refined, group) == 1);
  }
  const std::vector<double> values = {1, 2, 3, 4, 5, 6, 7, 8};
  const Estimate estimate = estimated(values, 1);
  CHECK(estimate.mean == 4.5);
  CHECK(estimate.low > 2.5);
  CHECK(estimate.low < 3.6);
  CHECK(estimate.high > 5.4);
  CHECK(quantile(values, 1) == 8);
  CHECK(quantile({}, 0.5) == 0);
  const std::vector<std::string> topics = {"a", "a", "b", "", "c", "b", ""};
  CHECK(kept_apart(topics) == std::vector<bool>{false, false, true, false, false, true, true});
  const std::vector<std::string> one = {"a", "a", "a"};
  CHECK(kept_apart(one) == std::vector<bool>{false, true, false});
}

TEST_CASE("plans") {
  const SharePlan plan = some_plan();
  const std::string json = plan_json(plan);
  const SharePlan read = parse_plan(json, "plan");
  CHECK(plan_json(read) == json);
  CHECK(read.point().group == LayerGroup{15, 25});
  CHECK(json.find("\"hidden_layer\": 15") != std::string::npos);
  CHECK(choose_point(plan, "kld:0.04") == 2);
  CHECK(choose_point(plan, "kld:0.3") == 1);
  CHECK(choose_point(plan, "layers:9") == 1);
  CHECK(choose_point(plan, "layers:0") == 0);
  CHECK(default_point(plan) == 2);
  CHECK(kind_of([&] { choose_point(plan, "kld:0.0001"); }) == ErrorKind::kNo);
  for (const char* bad : {"", "kld", "kld:", "kld:x", "f1:2", "kld:-1", "kld:1x"}) {
    CHECK(kind_of([&] { choose_point(plan, bad); }) == ErrorKind::kUsage);
  }
  for (std::size_t n = 0; n + 2 < json.size(); n += 7) {
    CHECK(kind_of([&] { parse_plan(json.substr(0, n), "plan"); }) == ErrorKind::kInput);
  }
  for (const auto& [from, to] : {std::pair("\"chosen\": 2", "\"chosen\": 4"),
                                 {"\"chosen\": 2", "\"chosen\": 1"},
                                 {"\"version\": 1", "\"version\": 2"},
                                 {"\"layers\": 30", "\"layers\": 20"},
                                 {"\"layers\": 30", "\"layers\": 1e300"},
                                 {"\"first\": 20", "\"first\": 26"},
                                 {"kvtools share plan", "another"}}) {
    std::string other = json;
    other.replace(other.find(from), std::string(from).size(), to);
    CAPTURE(to);
    CHECK(kind_of([&] { parse_plan(other, "plan"); }) == ErrorKind::kInput);
  }
}
