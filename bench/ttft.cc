// The engine of ttft.sh and ttft_links.sh: times to the first token in a process that has the
// model, as a server has.
//
//   ttft_bench MODEL TEXT QUESTION ROUNDS RATES CACHE...
//
// A line a round, rate and form, "RATE FORM MILLISECONDS": `text` reads text and question, a
// CACHE's name the question behind that cache. RATES, Gbit/s separated by commas, are of the link
// over which text and caches come; 0 is none, the file itself. The first round is not shown: memory
// is new in it.

#include "kv/base/file.hh"
#include "kv/generate/generate.hh"
#include "kv/session/cache_load.hh"
#include "paced_pipe.hh"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <sstream>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;

kv::GenerateOptions one_token() {
  kv::GenerateOptions options;
  options.max_tokens = 1;
  return options;
}

// A file, or a link that brings its bytes.
class Source {
 public:
  Source(const std::string& path, double gbit_per_s) : path_(path) {
    if (gbit_per_s <= 0) return;
    bytes_ = kv::Input::open(path).read_all(std::uint64_t{1} << 32);
    rate_ = gbit_per_s * 1e9;
  }
  // Once a round.
  kv::Input open() {
    if (rate_ == 0) return kv::Input::open(path_);
    link_.reset();
    link_.emplace(bytes_, rate_);
    return kv::Input::open(link_->path());
  }

 private:
  std::string path_;
  double rate_ = 0;
  kv::Bytes bytes_;
  std::optional<kv::PacedPipe> link_;
};

void behind_text(const kv::Session& session, Source& source, const std::string& question) {
  const std::string text(kv::as_text(source.open().read_all(1 << 24)));
  std::vector<std::int32_t> ids = session.tokenizer->encode(text + question);
  kv::KvCache cache =
      session.model->make_cache({.capacity = static_cast<std::int64_t>(ids.size()) + 1});
  generate(session, {cache, 0, std::move(ids)}, one_token());
}

void behind_cache(const kv::Session& session, Source& source, const std::string& question) {
  std::vector<std::int32_t> ids = session.tokenizer->encode(question);
  auto load = kv::CacheLoad::open(source.open(), session,
                                  {.extra_tokens = static_cast<std::int64_t>(ids.size()) + 1});
  if (!load) kv::fail_input("an empty cache");
  generate(session,
           {load->file().cache, load->file().tokens.back(), std::move(ids),
            [&](std::int64_t layer) { load->wait(layer); }},
           one_token());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) {
    fmt::print(stderr, "usage: ttft_bench MODEL TEXT QUESTION ROUNDS RATES CACHE...\n");
    return 2;
  }
  try {
    const kv::Session session = kv::Session::open(argv[1], {.with_head = true});
    const std::string question = argv[3];
    const int rounds = std::stoi(argv[4]);
    std::istringstream rates(argv[5]);
    for (std::string rate; std::getline(rates, rate, ',');) {
      std::vector<Source> sources;
      sources.emplace_back(argv[2], std::stod(rate));
      for (int i = 6; i < argc; ++i) sources.emplace_back(argv[i], std::stod(rate));
      for (int round = 0; round <= rounds; ++round) {
        for (std::size_t i = 0; i < sources.size(); ++i) {
          const Clock::time_point start = Clock::now();
          if (i == 0) {
            behind_text(session, sources[i], question);
          } else {
            behind_cache(session, sources[i], question);
          }
          const std::chrono::duration<double, std::milli> took = Clock::now() - start;
          if (round > 0) {
            fmt::print("{} {} {:.2f}\n", rate, i ? argv[5 + i] : "text", took.count());
          }
        }
      }
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "ttft_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
