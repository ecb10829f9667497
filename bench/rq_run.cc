#include "rq_run.hh"

#include "kv/base/hash.hh"
#include "kv/documents/documents.hh"
#include "kv/eval/divergence.hh"
#include "rq_results.hh"
#include "rq_shell.hh"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <set>
#include <tuple>

namespace kv {
namespace {

namespace fs = std::filesystem;

struct Probe {
  std::string name;
  std::vector<std::int32_t> tokens;
  std::optional<Reference> reference;
};

// The window's own continuation, and a verbatim copy of a part of the context far behind its end.
std::vector<Probe> probes_of(const Window& window, const RunOptions& options) {
  const auto begin = window.tokens.begin();
  std::vector<Probe> probes;
  probes.push_back({"continuation", {begin + window.context, window.tokens.end()}, {}});
  if (options.copy_probe) {
    const std::int64_t first = window.context < 1024 ? window.context / 4 : 700;
    const std::int64_t last = std::min(first + options.continuation, window.context);
    probes.push_back({"copy", {begin + first, begin + last}, {}});
  }
  return probes;
}

// Row i says what comes behind token i, so the last row has no true token.
std::vector<std::int32_t> targets_of(const Probe& probe) {
  return {probe.tokens.begin() + 1, probe.tokens.end()};
}

std::string setup_of(const Window& window, const Session& session, const RunOptions& options) {
  Fingerprint print;
  print.add_text(session.identity.fingerprint);
  print.add_text(options.prefill_flags);
  print.add_text(dtype_name(session.model->compute()));
  print.add_text(fmt::format("{} {}", window.context, options.continuation));
  print.add(std::as_bytes(std::span(window.tokens)));
  return print.hex().substr(0, 16);
}

void append(const std::string& path, const std::string& lines) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file.number() < 0 ||
      ::write(file.number(), lines.data(), lines.size()) != static_cast<ssize_t>(lines.size())) {
    fail_errno("append to " + path);
  }
}

class Runner {
 public:
  Runner(const RunOptions& options, const std::function<void(const std::string&)>& say)
      : options_(options),
        say_(say),
        results_(options.work + "/results.jsonl"),
        lock_(::open((options.work + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (lock_.number() < 0 || ::flock(lock_.number(), LOCK_EX | LOCK_NB) != 0) {
      fail_errno(options.work + ": another run is at work in this folder; lock");
    }
    mend_results(results_);
    if (!fs::exists(results_)) return;
    for (const WindowResult& result : read_window_results(results_)) done_.insert(key_of(result));
  }

  RunCounts run(const std::vector<Window>& windows) {
    prefill(windows);
    session_ = Session::open(options_.model, options_.compute);
    for (const Window& window : windows) {
      const auto total = static_cast<std::int64_t>(window.tokens.size());
      if (total > session_.model->config().context) {
        fail_input("{}: {} tokens, over the model's context of {}", window.id, total,
                   session_.model->config().context);
      }
    }
    for (const Window& window : windows) run_window(window);
    return counts_;
  }

 private:
  using Key = std::tuple<std::string, std::string, std::string, std::string, std::string>;
  static Key key_of(const WindowResult& r) {
    return {r.setup, r.window, r.recipe, r.shell, r.probe};
  }

  std::string cache_of(const Window& window) const {
    return options_.work + "/caches/" + file_name_of(window.id) + ".kv";
  }
  std::string context_of(const Window& window) const {
    return options_.work + "/contexts/" + file_name_of(window.id) + ".jsonl";
  }

  // kvprefill skips what is there already and refuses what was made otherwise.
  void prefill(const std::vector<Window>& windows) {
    fs::create_directories(options_.work + "/contexts");
    const std::string all = options_.work + "/contexts.jsonl";
    Output every = Output::create(all, true);
    for (const Window& window : windows) {
      Window context = window;
      context.tokens.resize(static_cast<std::size_t>(window.context));
      const std::string line = window_line(context, nullptr);
      every.write(as_bytes(line));
      Output own = Output::create(context_of(window), true);
      own.write(as_bytes(line));
      own.commit();
    }
    every.commit();
    ::setenv("RQ_MODEL", options_.model.c_str(), 1);
    ::setenv("RQ_ALL", all.c_str(), 1);
    ::setenv("RQ_CACHES", (options_.work + "/caches").c_str(), 1);
    const std::string compute(options_.compute.compute == Compute::kF32 ? "f32" : "auto");
    run_shell(fmt::format("kvprefill -q -m \"$RQ_MODEL\" --compute {} --dtype bf16 --no-bos "
                          "--no-history --jsonl \"$RQ_ALL\" --out-dir \"$RQ_CACHES\" {}",
                          compute, options_.prefill_flags),
              "/dev/null", "/dev/null");
  }

  void run_window(const Window& window) {
    const std::string setup = setup_of(window, session_, options_);
    std::vector<Probe> probes = probes_of(window, options_);
    std::vector<const Recipe*> left;
    for (const Recipe& recipe : options_.recipes) {
      bool there = true;
      for (const Probe& probe : probes) {
        there = there && done_.contains({setup, window.id, recipe.name, recipe.shell, probe.name});
      }
      there ? static_cast<void>(++counts_.there) : left.push_back(&recipe);
    }
    if (left.empty()) return;
    ::setenv("RQ_WINDOW", window.id.c_str(), 1);
    ::setenv("RQ_DOMAIN", window.domain.c_str(), 1);
    ::setenv("RQ_CONTEXT", context_of(window).c_str(), 1);
    predict(cache_of(window), window, probes, [](Probe& probe, std::vector<float> logits) {
      const auto rows = probe.tokens.size();
      const auto vocab = static_cast<std::int64_t>(logits.size() / rows);
      probe.reference.emplace(std::move(logits), vocab, targets_of(probe));
    });
    for (const Recipe* recipe : left) {
      try {
        measure(*recipe, window, setup, probes);
        ++counts_.measured;
      } catch (const Error& error) {
        ++counts_.failed;
        say_(fmt::format("FAILED {} {}: {}", window.id, recipe->name, error.what()));
      }
    }
  }

  // Logits of every probe behind the cache in the file.
  void predict(const std::string& path, const Window& window, std::vector<Probe>& probes,
               const std::function<void(Probe&, std::vector<float>)>& use) {
    std::size_t most = 0;
    for (const Probe& probe : probes) most = std::max(most, probe.tokens.size());
    std::optional<CacheFile> file =
        read_cache(Input::open(path), session_, {.extra_tokens = static_cast<std::int64_t>(most)});
    if (!file) fail_input("{}: empty", path);
    if (!std::equal(file->tokens.begin(), file->tokens.end(), window.tokens.begin(),
                    window.tokens.begin() + window.context)) {
      fail_input("{}: holds other tokens than the window's context", path);
    }
    for (Probe& probe : probes) {
      use(probe,
          session_.model->forward(probe.tokens, file->cache, {.logits = LogitRows::kAll}).logits);
      file->cache.truncate(window.context);
    }
  }

  void measure(const Recipe& recipe, const Window& window, const std::string& setup,
               std::vector<Probe>& probes) {
    const std::string raw = cache_of(window), coded = options_.work + "/coded";
    const ShellTimes times = run_shell(recipe.encode, raw, coded);
    std::string readable = coded;
    if (!recipe.decode.empty()) {
      readable = options_.work + "/decoded";
      run_shell(recipe.decode, coded, readable);
    }
    WindowResult result{setup, window.id, window.domain, recipe.name, recipe.shell};
    result.context = window.context;
    for (const LayerGeometry& layer : session_.model->config().layers) {
      result.values += window.context * layer.kv_heads * (layer.k_dim + layer.v_dim);
    }
    result.bytes = fs::file_size(coded);
    result.raw_bytes = fs::file_size(raw);
    result.encode_s = times.wall_s;
    result.encode_cpu_s = times.cpu_s;
    std::string lines, told;
    predict(readable, window, probes, [&](Probe& probe, const std::vector<float>& logits) {
      WindowResult own = result;
      own.probe = probe.name;
      own.targets = static_cast<std::int64_t>(probe.reference->targets());
      for (const TokenMetrics& token : probe.reference->compare(logits)) {
        own.kld.push_back(token.kld);
        own.same_top += token.same_top ? 1 : 0;
        own.nll_sum += token.nll;
        own.reference_nll_sum += token.reference_nll;
      }
      lines += window_result_line(own);
      told += fmt::format(", {} KLD {:.3g}", probe.name,
                          std::accumulate(own.kld.begin(), own.kld.end(), 0.0) /
                              static_cast<double>(own.kld.size()));
    });
    append(results_, lines);
    say_(fmt::format("{} {}: {:.3f} bits a value{}", window.id, recipe.name,
                     8.0 * static_cast<double>(result.bytes) / static_cast<double>(result.values),
                     told));
  }

  const RunOptions& options_;
  const std::function<void(const std::string&)>& say_;
  std::string results_;
  Fd lock_;
  std::set<Key> done_;
  Session session_;
  RunCounts counts_;
};

}  // namespace

Recipe parse_recipe(const std::string& text) {
  constexpr std::string_view kInverse = "|||";
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    fail_usage("--recipe '{}': give NAME=SHELL or NAME=ENCODE|||DECODE", text);
  }
  Recipe recipe{text.substr(0, equals), text.substr(equals + 1), "", ""};
  const std::size_t inverse = recipe.shell.find(kInverse);
  recipe.encode = recipe.shell.substr(0, inverse);
  if (inverse != std::string::npos) recipe.decode = recipe.shell.substr(inverse + kInverse.size());
  return recipe;
}

RunCounts run_recipes(const std::vector<Window>& windows, const RunOptions& options,
                      const std::function<void(const std::string&)>& say) {
  std::set<std::string> names;
  for (const Recipe& recipe : options.recipes) {
    if (!names.insert(recipe.name).second) fail_usage("--recipe {}: given twice", recipe.name);
  }
  for (const Window& window : windows) {
    if (static_cast<std::int64_t>(window.tokens.size()) != window.context + options.continuation) {
      fail_input("{}: {} tokens behind the context, not {}", window.id,
                 static_cast<std::int64_t>(window.tokens.size()) - window.context,
                 options.continuation);
    }
  }
  if (options.continuation < 2) fail_usage("-: a continuation of fewer than 2 tokens");
  fs::create_directories(options.work + "/caches");
  const char* path = std::getenv("PATH");
  ::setenv("PATH", fmt::format("{}:{}", options.tools, path == nullptr ? "" : path).c_str(), 1);
  return Runner(options, say).run(windows);
}

}  // namespace kv
