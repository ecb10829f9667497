#pragma once
// The option table of a tool in other forms, so that completions and man pages cannot drift.

#include <CLI/CLI.hpp>

#include <string>

namespace kv {

// One line an option: names joined by commas, a tab, the argument's name (empty for a flag), a
// tab, the help text. Positionals have their name in place of options.
std::string dump_options(const CLI::App& app);
// Throws kUsage for a shell other than bash and zsh.
std::string completion_script(const CLI::App& app, const std::string& tool,
                              const std::string& shell);

}  // namespace kv
