// The engine of blend.sh: chunks of a file fused behind each other, in a process that has the
// model.
//
//   blend_bench MODEL CHUNKS QUESTION ROUNDS RATE...
//
// A line a round and measurement, "FORM SECONDS". With a reader that gives RATE bytes a second (0:
// as fast as the file is read): `load RATE` reads all layers, `recompute` fuses with all of them
// there, `overlapped RATE` does both at once, as kvblend does. `prefill` reads text and question,
// `blend RULE SHARE` fuses with an unlimited reader; all but `load` end with the question's last
// logits. The first round is not shown: memory is new in it.

#include "kv/blend/fuse.hh"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;

struct Bench {
  kv::Session session;
  kv::Pieces pieces;

  Bench(const std::string& model, const std::string& chunks, const std::string& question)
      : session(kv::Session::open(model, {.with_head = true})),
        pieces(session, {.paths = {chunks}, .suffix = session.tokenizer->encode(question)}) {}

  kv::KvCache cache() const {
    kv::KvCache made = session.model->make_cache({.capacity = pieces.layout().size(),
                                                  .keep_unrotated_keys = true,
                                                  .layers_on_demand = true});
    made.extend(0, pieces.layout().size());
    return made;
  }
  kv::LayerLoad loading(kv::KvCache& into, double bytes_per_s) {
    return kv::LayerLoad(pieces.load_parts(), into,
                         {.threads = std::max(1, session.model->threads() - 1),
                          .ahead = 1,
                          .bytes_per_s = bytes_per_s,
                          .open_layers = true});
  }
  void load(kv::KvCache& into, double bytes_per_s) {
    kv::LayerLoad load = loading(into, bytes_per_s);
    for (std::int64_t layer = 0; layer < into.layer_count(); ++layer) load.wait(layer);
  }
  void blend(double bytes_per_s, kv::FuseOptions options) {
    kv::KvCache fused = cache();
    kv::LayerLoad load = loading(fused, bytes_per_s);
    options.logits = true;
    options.on_layer = [&](std::int64_t layer) { fused.close_layer(layer); };
    kv::fuse(
        *session.model, pieces.layout(), fused, [&](std::int64_t layer) { load.wait(layer); },
        options);
  }
  void prefill() const {
    kv::KvCache whole = session.model->make_cache({.capacity = pieces.layout().size()});
    session.model->forward(pieces.layout().ids, whole);
  }
};

template <typename F>
double seconds(F&& body) {
  const Clock::time_point began = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - began).count();
}

void round_of(Bench& bench, const std::vector<std::string>& rates) {
  const auto tell = [](const std::string& form, double took_s) {
    fmt::print("{} {:.4f}\n", form, took_s);
    std::fflush(stdout);
  };
  tell("prefill", seconds([&] { bench.prefill(); }));
  for (const std::string& rate : rates) {
    const double bytes_per_s = std::stod(rate);
    kv::KvCache loaded = bench.cache();
    tell("load " + rate, seconds([&] { bench.load(loaded, bytes_per_s); }));
    if (rate == rates.front()) {
      tell("recompute", seconds([&] {
             kv::fuse(*bench.session.model, bench.pieces.layout(), loaded, [](std::int64_t) {},
                      {.logits = true});
           }));
    }
    tell("overlapped " + rate, seconds([&] { bench.blend(bytes_per_s, {}); }));
  }
  const auto tell_blend = [&](const std::string& rule, double share) {
    tell(fmt::format("blend {} {:.0f}%", rule, 100 * share), seconds([&] {
           bench.blend(0, {.selection = kv::parse_selection(rule), .amount = {share}});
         }));
  };
  for (const double share : {0.05, 0.1, 0.15, 0.2, 0.3, 0.5}) tell_blend("hkvd", share);
  for (const char* rule : {"first", "qattn"}) tell_blend(rule, 0.15);
  tell("blend none 0%", seconds([&] { bench.blend(0, {.selection = kv::Selection::kNone}); }));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    fmt::print(stderr, "usage: blend_bench MODEL CHUNKS QUESTION ROUNDS RATE...\n");
    return 2;
  }
  try {
    Bench bench(argv[1], argv[2], argv[3]);
    const std::vector<std::string> rates(argv + 5, argv + argc);
    const int rounds = std::stoi(argv[4]);
    bench.blend(0, {});
    for (int round = 0; round < rounds; ++round) round_of(bench, rates);
  } catch (const std::exception& error) {
    fmt::print(stderr, "blend_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
