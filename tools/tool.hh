#pragma once
// What all tools share: options, the catch, the terminal guard, the flush check, the exit status.
// CLI11 is seen only in this folder.

#include "kv/base/file.hh"
#include "kv/base/range.hh"

#include <CLI/CLI.hpp>

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace kv {

struct ToolInfo {
  const char* name;
  const char* summary;   // first line of --help and of the man page's NAME
  const char* examples;  // last lines of --help
};

// How the tool was called; what ends up in a file's history.
struct Invocation {
  std::string tool;
  std::string version;
  std::vector<std::string> arguments;
  bool quiet = false;
  // Of a call inside another tool: what "-" is to read and to write, instead of the process's own.
  std::string input;
  std::function<Output()> output;
};

using DeclareFn = std::function<void(CLI::App&)>;
using BodyFn = std::function<int(const Invocation&)>;

int tool_run(const ToolInfo& info, int argc, char** argv, const DeclareFn& declare,
             const BodyFn& body);
// Ends the process. Not by main's return: taking down LibTorch's registries takes longer than
// setting up ours.
[[noreturn]] void leave(int status);

// A tool's main: `declare` adds its options to the parser, `program_body` does the work and
// returns 0 or 1.
template <typename Options>
int tool_main(const ToolInfo& info, int argc, char** argv, void (*declare)(CLI::App&, Options&),
              int (*program_body)(const Options&, const Invocation&)) {
  Options options;
  leave(tool_run(
      info, argc, argv, [&](CLI::App& app) { declare(app, options); },
      [&](const Invocation& call) { return program_body(options, call); }));
}

// A call inside another tool: the options are parsed as the tool itself would parse them. Throws
// kUsage where it would complain, and for what only prints something (--help).
Invocation parse_call(const ToolInfo& info, std::span<const std::string> arguments,
                      const DeclareFn& declare);

// -o FILE and -f, as every tool with binary output has them.
struct OutputOptions {
  std::string path;
  bool force = false;
};
void declare_output(CLI::App& app, OutputOptions& options);
// Throws kUsage when binary data would go to a terminal.
Output open_output(const OutputOptions& options, const Invocation& call);
// The file that a tool is to read for this argument.
std::string input_path(const std::string& given, const Invocation& call);

// --threads of tools that run no model: as many as the machine has.
void declare_threads(CLI::App& app, int& threads);

// Text for people: written to stdout, errors (a full disk) seen at once.
void print(const std::string& text);
// A line on stderr with the tool's name in front.
void note(const Invocation& call, const std::string& text);

// "0:256", ":256", "256:", "12" (one); throws kUsage.
Range parse_range(const std::string& text, const char* option);
// "1,3" or ranges "0:4,7"; throws kUsage.
std::vector<Range> parse_ranges(const std::string& text, const char* option);
// "0,8,16": ascending, without repetition; throws kUsage.
std::vector<std::uint32_t> parse_indices(const std::string& text, const char* option);

}  // namespace kv
