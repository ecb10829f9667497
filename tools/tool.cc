#include "tool.hh"

#include "completion.hh"
#include "kv/base/control_characters.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

namespace kv {
namespace {

int status_of(ErrorKind kind) { return static_cast<int>(kind); }

int complain(const char* tool, const std::string& message, ErrorKind kind) {
  std::fflush(stdout);
  fmt::print(stderr, "{}: {}\n", tool, without_controls(message));
  return status_of(kind);
}

// A full disk shows only when the last buffer is written.
int close_stdout(const char* tool, int status) {
  const bool failed = std::ferror(stdout) != 0;
  // A body that failed has said why.
  if ((std::fclose(stdout) != 0 || failed) && status <= status_of(ErrorKind::kNo)) {
    return complain(tool, "write -: the output could not be written", ErrorKind::kIo);
  }
  return status;
}

int run_body(const ToolInfo& info, const BodyFn& body, const Invocation& call) {
  try {
    return body(call);
  } catch (const Error& error) {
    return complain(info.name, error.what(), error.kind());
  } catch (const std::bad_alloc&) {
    return complain(info.name, "out of memory", ErrorKind::kIo);
  } catch (const std::exception& error) {
    return complain(info.name, fmt::format("internal error: {}; please report it", error.what()),
                    ErrorKind::kIo);
  }
}

std::int64_t parse_number(std::string_view text, std::string_view whole, const char* option) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < 0) {
    fail_usage("{} '{}': give FIRST:LAST, for example 0:256", option, whole);
  }
  return value;
}

}  // namespace

Invocation parse_call(const ToolInfo& info, std::span<const std::string> arguments,
                      const DeclareFn& declare) {
  Invocation call{info.name, KVTOOLS_VERSION, {arguments.begin(), arguments.end()}};
  CLI::App app(info.summary, info.name);
  app.add_flag("-q,--quiet", call.quiet);
  declare(app);
  try {
    // CLI11 takes them from the back.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success&) {
    fail_usage("{} --help: of no use here", info.name);
  } catch (const CLI::ParseError& error) {
    fail_usage("{}: {}; see {} --help", info.name, error.what(), info.name);
  }
  return call;
}

int tool_run(const ToolInfo& info, int argc, char** argv, const DeclareFn& declare,
             const BodyFn& body) {
  map_guard(info.name);
  Invocation call{info.name, KVTOOLS_VERSION, {argv + 1, argv + argc}};
  CLI::App app(info.summary, info.name);
  app.footer(std::string("Examples:\n") + info.examples);
  app.get_formatter()->column_width(34);
  app.set_version_flag("--version", fmt::format("{} (kvtools) {}", info.name, KVTOOLS_VERSION),
                       "print the version and exit");
  app.add_flag("-q,--quiet", call.quiet, "no notes and no progress on stderr");
  std::string shell;
  app.add_option("--completion", shell, "print the completion script for bash or zsh and exit")
      ->type_name("SHELL");
  bool dump = false;
  app.add_flag("--dump-options", dump)->group("");  // hidden: what the man page is checked against
  declare(app);
  // Positionals and required options do not count when only a script is asked for.
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--dump-options") {
      print(dump_options(app));
      return close_stdout(info.name, 0);
    }
    if (word == "--completion" && i + 1 < argc) {
      return close_stdout(info.name, run_body(
                                         info,
                                         [&](const Invocation&) {
                                           print(completion_script(app, info.name, argv[i + 1]));
                                           return 0;
                                         },
                                         call));
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    app.exit(success);
    return close_stdout(info.name, 0);
  } catch (const CLI::ParseError& error) {
    return complain(info.name, fmt::format("{}; see {} --help", error.what(), info.name),
                    ErrorKind::kUsage);
  }
  return close_stdout(info.name, run_body(info, body, call));
}

void leave(int status) {
#ifdef KVTOOLS_SANITIZE
  std::exit(status);  // leaks are looked for on the way out
#else
  std::_Exit(status);
#endif
}

void declare_output(CLI::App& app, OutputOptions& options) {
  app.add_option("-o,--output", options.path, "write to FILE, whole or not at all (default: -)")
      ->type_name("FILE");
  app.add_flag("-f,--force", options.force, "overwrite FILE");
}

void declare_threads(CLI::App& app, int& threads) {
  threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  app.add_option("--threads", threads, "processor threads (default: all)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
}

Output open_output(const OutputOptions& options, const Invocation& call) {
  const bool to_stdout = options.path.empty() || options.path == "-";
  if (to_stdout && call.output) return call.output();
  if (to_stdout && isatty(STDOUT_FILENO)) {
    fail_usage("-: binary data is not written to a terminal; redirect it or give -o FILE");
  }
  return Output::create(options.path, options.force);
}

std::string input_path(const std::string& given, const Invocation& call) {
  return given.empty() || given == "-" ? call.input : given;
}

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_errno("write -");
}

void note(const Invocation& call, const std::string& text) {
  if (!call.quiet) fmt::print(stderr, "{}: {}\n", call.tool, text);
}

Range parse_range(const std::string& text, const char* option) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) {
    const std::int64_t only = parse_number(text, text, option);
    return {only, only + 1};
  }
  Range range;
  const std::string_view first = std::string_view(text).substr(0, colon);
  const std::string_view last = std::string_view(text).substr(colon + 1);
  if (!first.empty()) range.first = parse_number(first, text, option);
  if (!last.empty()) {
    range.last = parse_number(last, text, option);
    if (range.last <= range.first) fail_usage("{} '{}': the range is empty", option, text);
  }
  return range;
}

std::vector<Range> parse_ranges(const std::string& text, const char* option) {
  std::vector<Range> ranges;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    ranges.push_back(parse_range(text.substr(begin, comma - begin), option));
    begin = comma + 1;
  }
  return ranges;
}

std::vector<std::uint32_t> parse_indices(const std::string& text, const char* option) {
  std::vector<std::uint32_t> indices;
  for (const Range& range : parse_ranges(text, option)) {
    if (range.last != range.first + 1 || range.first > UINT32_MAX ||
        (!indices.empty() && range.first <= indices.back())) {
      fail_usage("{} '{}': give numbers in ascending order, for example 0,8,16", option, text);
    }
    indices.push_back(static_cast<std::uint32_t>(range.first));
  }
  return indices;
}

}  // namespace kv
