#include "error_kind.hh"
#include "kv/base/rate.hh"
#include "kv/blend/fuse.hh"
#include "kv/blend/verify.hh"
#include "random_checkpoint.hh"

#include <ATen/core/Tensor.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace kv;

namespace {

using Slots = std::vector<std::int64_t>;

std::vector<float> rows_of(const KvCache& cache, std::int64_t layer, CachePart part,
                           std::int64_t first, std::int64_t count) {
  const LayerGeometry& geometry = cache.geometry(layer);
  std::vector<float> rows(static_cast<std::size_t>(count * geometry.kv_heads * geometry.k_dim));
  cache.save(layer, part, first, count, DType::kF32, std::as_writable_bytes(std::span(rows)));
  return rows;
}

void put_rows(KvCache& cache, std::int64_t layer, CachePart part, std::int64_t first,
              const std::vector<float>& rows) {
  const LayerGeometry& geometry = cache.geometry(layer);
  const auto count = std::ssize(rows) / (geometry.kv_heads * geometry.k_dim);
  cache.load(
      layer, part, first,
      {DType::kF32, {count, geometry.kv_heads, geometry.k_dim}, std::as_bytes(std::span(rows))});
}

double difference(const KvCache& a, const KvCache& b) {
  double largest = 0;
  for (std::int64_t layer = 0; layer < a.layer_count(); ++layer) {
    for (const CachePart part : {CachePart::kKeys, CachePart::kValues}) {
      const auto x = rows_of(a, layer, part, 0, a.size()), y = rows_of(b, layer, part, 0, a.size());
      REQUIRE(std::ranges::all_of(x, [](float value) { return std::isfinite(value); }));
      for (std::size_t i = 0; i < x.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(x[i]) - y[i]));
      }
    }
  }
  return largest;
}

// Three chunks that were prefilled alone, a separator between the first two, and a question.
struct Blend {
  RandomCheckpoint checkpoint;
  std::unique_ptr<Model> model;
  Layout layout;
  KvCache loaded, whole;
  std::vector<float> logits;  // of the whole's last row

  explicit Blend(const RandomShape& shape = {}, bool plain = false)
      : checkpoint(shape),
        model(Model::load(checkpoint, {.compute = Compute::kF32, .plain_ops = plain})),
        loaded(model->make_cache({.capacity = 130, .keep_unrotated_keys = true})),
        whole(model->make_cache({.capacity = 130, .keep_unrotated_keys = true})) {
    for (std::int64_t i = 0; i < 130; ++i) {
      layout.ids.push_back(static_cast<std::int32_t>(i * 31 % 97));
    }
    layout.exact = {{0, 40}};
    layout.reused = {{42, 40}, {82, 33}};
    layout.fresh = {40, 41};
    for (std::int64_t slot = 115; slot < 130; ++slot) layout.fresh.push_back(slot);
    layout.suffix_begin = 115;
    logits = model->forward(layout.ids, whole).logits;
    loaded.extend(0, 130);
    load();
  }

  // What the pieces' own prefills made, and noise where nothing is to be loaded.
  void load() {
    for (const Stretch& piece : {layout.exact[0], layout.reused[0], layout.reused[1]}) {
      KvCache own = model->make_cache({.capacity = piece.count, .keep_unrotated_keys = true});
      model->forward(std::span(layout.ids)
                         .subspan(static_cast<std::size_t>(piece.begin),
                                  static_cast<std::size_t>(piece.count)),
                     own);
      each_part([&](std::int64_t layer, CachePart part) {
        put_rows(loaded, layer, part, piece.begin, rows_of(own, layer, part, 0, piece.count));
      });
    }
    for (const std::int64_t slot : layout.fresh) {
      each_part([&](std::int64_t layer, CachePart part) {
        const auto width = rows_of(whole, layer, part, 0, 1).size();
        put_rows(loaded, layer, part, slot, std::vector<float>(width, 17.0f));
      });
    }
  }

  void each_part(const std::function<void(std::int64_t, CachePart)>& body) const {
    for (std::int64_t layer = 0; layer < whole.layer_count(); ++layer) {
      body(layer, CachePart::kKeys);
      body(layer, CachePart::kValues);
    }
  }

  FuseReport fused(const FuseOptions& options) {
    std::int64_t next = 0;
    FuseReport report = fuse(
        *model, layout, loaded, [&](std::int64_t layer) { next = std::max(next, layer + 1); },
        options);
    CHECK(next == whole.layer_count());
    return report;
  }
};

}  // namespace

TEST_CASE("amounts and names") {
  CHECK(parse_amount("15%") == Amount{0.15, -1});
  CHECK(parse_amount("200").of(1000) == 200);
  CHECK(parse_amount("200").of(7) == 7);
  CHECK(parse_amount("12.5%").of(100) == 13);
  CHECK(parse_amount("100%").of(11) == 11);
  CHECK(parse_amounts("30%:20%:7").size() == 3);
  for (const char* wrong : {"", "%", "-1", "101%", "nan%", "1e3", "0x7", "15 %", "15%%", "-0.1%"}) {
    CAPTURE(wrong);
    CHECK(kind_of([&] { parse_amount(wrong); }) == ErrorKind::kUsage);
  }
  for (const char* wrong : {"20%:30%", "5:6", "20%:", ":", "20%;10%"}) {
    CAPTURE(wrong);
    CHECK(kind_of([&] { parse_amounts(wrong); }) == ErrorKind::kUsage);
  }
  CHECK(parse_selection("qattn") == Selection::kQuestion);
  CHECK(parse_measure("kv") == Measure::kBoth);
  CHECK(kind_of([] { parse_selection("best"); }) == ErrorKind::kUsage);
  CHECK(kind_of([] { parse_measure("x"); }) == ErrorKind::kUsage);
}

TEST_CASE("deviations are of rows, and both parts weigh the same") {
  const std::vector<float> before{0, 0, 1, 1, 5, 5}, after{0, 0, 1, 3, 8, 1};
  CHECK(deviations(before, after, 2) == std::vector<double>{0, 4, 25});
  const Slots slots{1, 2};
  const std::vector<double> keys{9, 10, 30}, values{9, 0.3, 0.1};
  const std::vector<double> both = joined(keys, values, slots);
  CHECK(both[1] == doctest::Approx(0.5 + 1.5));
  CHECK(both[2] == doctest::Approx(1.5 + 0.5));
  CHECK(joined(std::vector<double>{0, 0}, std::vector<double>{0, 2}, Slots{0, 1}) ==
        std::vector<double>{0, 2});
}

TEST_CASE("the highest scores, the first tokens, random ones") {
  const std::vector<double> scores{9, 1, 3, 2, 3, std::nan(""), 0};
  CHECK(highest(Slots{1, 2, 3, 4}, scores, 2) == Slots{2, 4});
  CHECK(highest(Slots{1, 2, 3, 4}, scores, 1) == Slots{2});
  CHECK(highest(Slots{1, 5, 6}, scores, 1) == Slots{5});
  CHECK(highest(Slots{6, 1}, scores, 9) == Slots{1, 6});
  CHECK(highest(Slots{}, scores, 3).empty());
  const std::vector<Stretch> chunks{{10, 100}, {200, 3}, {300, 1}};
  CHECK(first_of(chunks, {0.15}).size() == 15 + 1 + 1);
  CHECK(first_of(chunks, {0.02}) == Slots{10, 11, 200, 300});
  CHECK(first_of(chunks, {0, 5}) == Slots{10, 11, 200, 201, 300});
  CHECK(first_of(chunks, {1}).size() == 104);
  CHECK(first_of(chunks, {0}).empty());
  Slots many(1000);
  std::iota(many.begin(), many.end(), 5);
  const Slots some = random_of(many, 100, 1);
  CHECK(some.size() == 100);
  CHECK(std::ranges::is_sorted(some));
  CHECK(std::ranges::adjacent_find(some) == some.end());
  CHECK(some == random_of(many, 100, 1));
  CHECK(some != random_of(many, 100, 2));
  CHECK(random_of(many, 2000, 3) == many);
  // Spread over all: the mean of 100 of 0 to 999 is within 4 of its standard deviations.
  CHECK(std::abs(std::accumulate(some.begin(), some.end(), 0.0) / 100 - 504.5) < 4 * 28);
}

TEST_CASE("as many are recomputed as loading hides, by its time and a row's") {
  CHECK(balanced_share({.row_s = 1e-3, .reused = 1000, .fresh = 0, .load_s = 0.4}, 0.15) ==
        doctest::Approx(0.4));
  CHECK(balanced_share({.row_s = 1e-3, .reused = 1000, .fresh = 100, .load_s = 0.4}, 0.15) ==
        doctest::Approx(0.3));
  CHECK(balanced_share({.row_s = 1e-3, .reused = 1000, .fresh = 0, .load_s = 0.1}, 0.15) == 0.15);
  CHECK(balanced_share({.row_s = 1e-3, .reused = 1000, .fresh = 0, .load_s = 9}, 0.15) == 1);
  CHECK(balanced_share({.row_s = 1e-3, .reused = 0, .fresh = 9, .load_s = 9}, 0.15) == 0.15);
  for (const double load_s : {0.0, 1e9}) {
    Blend blend;
    const FuseReport report =
        blend.fused({.amount = {0.3}, .layer_load_s = [&] { return load_s; }});
    CHECK(report.chosen.size() == (load_s > 0 ? 73 : 22));
    CHECK(report.share == (load_s > 0 ? 1 : 0.3));
    CHECK(report.row_s > 0);
  }
}

TEST_CASE("a plan by hand") {
  // 10 layers; a row through one takes a millisecond. 2 GB at 1 GB/s are 0.2 s a layer.
  const FusionSize size{.layers = 10,
                        .check_layers = 1,
                        .tokens = 1100,
                        .reused = 900,
                        .fresh = 100,
                        .bytes = 2'000'000'000,
                        .row_s = 1e-3};
  const Plan plan = plan_for(size, {{"fast", 100e9}, {"slow", 1e9}, {"slowest", 1e6, 0.5}}, 0.1);
  CHECK(plan.prefill_s == doctest::Approx(11));
  const DevicePlan &fast = plan.devices[0], &slow = plan.devices[1], &slowest = plan.devices[2];
  CHECK(fast.share == 0.1);
  CHECK(fast.recompute_s == doctest::Approx(1 + 9 * 0.19));
  CHECK(fast.total_s == doctest::Approx(0.002 + 2.71));
  CHECK(fast.hidden);
  CHECK(slow.share == doctest::Approx(1.0 / 9));
  CHECK(slow.load_s == doctest::Approx(2));
  CHECK(slow.recompute_s == doctest::Approx(1 + 9 * 0.2));
  CHECK(slow.hidden);
  CHECK(plan.cheapest == 1);
  CHECK(slowest.share == 1);
  CHECK_FALSE(slowest.hidden);
  CHECK(slowest.total_s == doctest::Approx(0.5 + 200 + 1800));
  CHECK(plan_for(size, {{"slowest", 1e6}}, 0.1).cheapest == -1);
  CHECK(parse_rate("50M", "x") == 50e6);
  CHECK(parse_rate("4.8G", "x") == doctest::Approx(4.8e9));
  CHECK(parse_rate("1250", "x") == 1250);
  for (const char* wrong : {"", "M", "0", "-5M", "5MB", "inf", "nan", "1e400", "5X"}) {
    CAPTURE(wrong);
    CHECK(kind_of([&] { parse_rate(wrong, "x"); }) == ErrorKind::kUsage);
  }
}

TEST_CASE("KL divergence of logits") {
  const std::vector<float> even{1, 1}, odd{1, 1 + std::log(3.0f)};
  CHECK(kl_divergence(even, even) == 0);
  CHECK(kl_divergence(even, odd) == doctest::Approx(0.5 * std::log(2) + 0.5 * std::log(2.0 / 3)));
  CHECK(kl_divergence(odd, even) == doctest::Approx(0.25 * std::log(0.5) + 0.75 * std::log(1.5)));
}

TEST_CASE("all tokens recomputed are a full prefill") {
  for (const bool plain : {false, true}) {
    for (const RandomShape& shape :
         {RandomShape{}, RandomShape{.layers = 5, .window = 33, .bias = true, .qk_norm = true}}) {
      for (const Selection selection :
           {Selection::kHkvd, Selection::kFirst, Selection::kQuestion, Selection::kRandom}) {
        Blend blend(shape, plain);
        CHECK(difference(blend.loaded, blend.whole) > 0.1);
        const FuseReport report =
            blend.fused({.selection = selection, .amount = {1.0}, .logits = true});
        CHECK(difference(blend.loaded, blend.whole) < 1e-4);
        CHECK(report.chosen == blend.layout.candidates());
        REQUIRE(report.logits.size() == blend.logits.size());
        for (std::size_t i = 0; i < report.logits.size(); ++i) {
          CHECK(report.logits[i] == doctest::Approx(blend.logits[i]).epsilon(1e-3));
        }
      }
    }
  }
}

TEST_CASE("without recomputing what was loaded stays, bit by bit") {
  for (const Selection selection :
       {Selection::kNone, Selection::kHkvd, Selection::kFirst, Selection::kQuestion}) {
    Blend blend;
    const Blend untouched;
    const FuseReport report = blend.fused({.selection = selection, .amount = {0, 0}});
    CHECK(report.chosen.empty());
    blend.each_part([&](std::int64_t layer, CachePart part) {
      for (const Stretch& piece :
           {blend.layout.exact[0], blend.layout.reused[0], blend.layout.reused[1]}) {
        CHECK(rows_of(blend.loaded, layer, part, piece.begin, piece.count) ==
              rows_of(untouched.loaded, layer, part, piece.begin, piece.count));
      }
      // The separator stands behind an exact piece only.
      const auto separator = rows_of(blend.loaded, layer, part, 40, 2);
      const auto wanted = rows_of(blend.whole, layer, part, 40, 2);
      for (std::size_t i = 0; i < separator.size(); ++i) {
        CHECK(std::abs(separator[i] - wanted[i]) < 1e-4f);
      }
    });
    CHECK(report.row_layers == 17 * 2);
    CHECK(report.key_value_rows == 17);
  }
}

TEST_CASE("hkvd recomputes the tokens that deviate most, at the layer and by the part asked for") {
  const Slots planted{47, 60, 99};
  for (const auto& [layer, measure, part] :
       {std::tuple(std::int64_t{1}, Measure::kValues, CachePart::kValues),
        {2, Measure::kValues, CachePart::kValues},
        {1, Measure::kKeys, CachePart::kKeys},
        {1, Measure::kBoth, CachePart::kValues},
        {1, Measure::kBoth, CachePart::kKeys}}) {
    Blend blend({.layers = 4});
    for (const std::int64_t slot : planted) {
      std::vector<float> rows = rows_of(blend.loaded, layer, part, slot, 1);
      for (float& value : rows) value += 100.0f;
      put_rows(blend.loaded, layer, part, slot, rows);
    }
    const FuseReport report =
        blend.fused({.amount = {0, 3}, .check_layer = layer, .measure = measure});
    CHECK(report.chosen == planted);
    // All 90 rows up to the check layer, 20 behind it; 73 are candidates.
    CHECK(report.row_layers == 90 * layer + 20 * (3 - layer));
    CHECK(report.key_value_rows == 90 + 20);
    // Keys and values of the check layer are kept for all.
    const auto values = rows_of(blend.loaded, layer, part, planted[0], 1);
    CHECK(*std::ranges::max_element(values) < 50.0f);
  }
}

TEST_CASE("gradual filtering keeps fewer at each layer") {
  Blend blend({.layers = 5});
  const FuseReport report = blend.fused({.gradual = {{0.5}, {0, 20}, {0, 4}}});
  CHECK(report.chosen.size() == 4);
  // 73 candidates and 17 fresh ones through layer 0, then 37, 20 and 4 of them.
  CHECK(report.row_layers == 90 + (37 + 17) + (20 + 17) + (4 + 17));
  CHECK(report.key_value_rows == 90 + 54 + 37 + 21);
  Blend again({.layers = 5});
  CHECK(again.fused({.gradual = {{0.5}, {0, 20}, {0, 4}}}).chosen == report.chosen);
}

TEST_CASE("question attention chooses what the question looks at") {
  Blend blend;
  const Slots question{115, 116, 117};
  const at::Tensor hidden = blend.model->embed(std::span(blend.layout.ids).subspan(115, 3));
  const std::vector<float> mass = blend.model->attention_mass(0, hidden, question, blend.whole);
  CHECK(std::accumulate(mass.begin(), mass.end(), 0.0) == doctest::Approx(3 * 6));
  CHECK(std::all_of(mass.begin() + 118, mass.end(), [](float m) { return m == 0; }));
  const FuseReport report = blend.fused({.selection = Selection::kQuestion, .amount = {0, 5}});
  REQUIRE(report.chosen.size() == 5);
  // The same by hand, over layers 1 and 2: a quarter of three layers is the first.
  Blend other;
  Slots fresh = other.layout.fresh;
  std::vector<double> sum(130);
  at::Tensor rows = other.model->embed([&] {
    std::vector<std::int32_t> ids;
    for (const std::int64_t slot : fresh)
      ids.push_back(other.layout.ids[static_cast<std::size_t>(slot)]);
    return ids;
  }());
  const Slots asking(fresh.begin() + 2, fresh.end());
  for (std::int64_t layer = 0; layer < 3; ++layer) {
    at::Tensor input = rows.clone();
    other.model->run_layer(layer, rows, fresh, other.loaded);
    if (layer == 0) continue;
    const auto of_layer = other.model->attention_mass(layer, input.narrow(0, 2, std::ssize(asking)),
                                                      asking, other.loaded);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += of_layer[i];
  }
  CHECK(report.chosen == highest(other.layout.candidates(), sum, 5));
}

TEST_CASE("attention mass is the same of both kinds of cache, and ends where a window does") {
  const RandomShape shape{.window = 40, .bias = true, .qk_norm = true};
  const Blend fused(shape), plain(shape, true);
  const Slots last{129};
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    const auto mass = [&](const Blend& of) {
      const std::vector<float> row(48, 0.5f);
      return of.model->attention_mass(layer, of.model->hidden_from(row), last, of.whole);
    };
    const std::vector<float> a = mass(fused), b = mass(plain);
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-3));
    CHECK((a[89] == 0) == (layer == 0));  // position 129 sees 90 to 129 through the window
    CHECK(a[90] > 0);
  }
}

TEST_CASE("what does not fit is refused") {
  Blend blend;
  CHECK(kind_of([&] { blend.fused({.check_layer = 0}); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { blend.fused({.check_layer = 3}); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { blend.fused({.gradual = {{0.5}, {0.4}, {0.3}}}); }) == ErrorKind::kUsage);
  CHECK(kind_of([&] { blend.fused({.selection = Selection::kQuestion, .check_layer = 3}); }) ==
        ErrorKind::kUsage);
  blend.layout.ids.resize(115);
  blend.layout.fresh.resize(2);
  blend.loaded.truncate(115);
  CHECK(kind_of([&] { blend.fused({.selection = Selection::kQuestion}); }) == ErrorKind::kUsage);
}
