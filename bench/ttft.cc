// The engine of ttft.sh: times to the first token in a process that has the model, as a server has.
//
//   ttft_bench MODEL TEXT QUESTION ROUNDS CACHE...
//
// A line a round and form, "FORM MILLISECONDS": `text` reads text and question, a CACHE's name the
// question behind that cache. The first round is not shown: memory is new in it.

#include "kv/base/file.hh"
#include "kv/generate/generate.hh"
#include "kv/session/cache_load.hh"

#include <fmt/format.h>

#include <chrono>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;

kv::GenerateOptions one_token() {
  kv::GenerateOptions options;
  options.max_tokens = 1;
  return options;
}

void behind_text(const kv::Session& session, const std::string& text) {
  std::vector<std::int32_t> ids = session.tokenizer->encode(text);
  kv::KvCache cache =
      session.model->make_cache({.capacity = static_cast<std::int64_t>(ids.size()) + 1});
  generate(session, {cache, 0, std::move(ids)}, one_token());
}

void behind_cache(const kv::Session& session, const std::string& path,
                  const std::string& question) {
  std::vector<std::int32_t> ids = session.tokenizer->encode(question);
  auto load = kv::CacheLoad::open(kv::Input::open(path), session,
                                  {.extra_tokens = static_cast<std::int64_t>(ids.size()) + 1});
  if (!load) kv::fail_input("{}: empty; give a cache", path);
  generate(session,
           {load->file().cache, load->file().tokens.back(), std::move(ids),
            [&](std::int64_t layer) { load->wait(layer); }},
           one_token());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    fmt::print(stderr, "usage: ttft_bench MODEL TEXT QUESTION ROUNDS CACHE...\n");
    return 2;
  }
  try {
    const kv::Session session = kv::Session::open(argv[1], {.with_head = true});
    const std::string text(kv::as_text(kv::Input::open(argv[2]).read_all(1 << 24)));
    const std::string question = argv[3];
    const int rounds = std::stoi(argv[4]);
    for (int round = 0; round <= rounds; ++round) {
      const auto timed = [&](const std::string& form, auto body) {
        const Clock::time_point start = Clock::now();
        body();
        const std::chrono::duration<double, std::milli> took = Clock::now() - start;
        if (round > 0) fmt::print("{} {:.2f}\n", form, took.count());
      };
      timed("text", [&] { behind_text(session, text + question); });
      for (int i = 5; i < argc; ++i) {
        timed(argv[i], [&] { behind_cache(session, argv[i], question); });
      }
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "ttft_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
