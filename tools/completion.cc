#include "completion.hh"

#include "kv/base/error.hh"

#include <fmt/format.h>

namespace kv {
namespace {

struct Row {
  std::vector<std::string> names;  // with dashes; empty for a positional
  std::string argument;            // "" for a flag
  std::string help;
};

// CLI11 appends what a check wants: "N:INT in [0 - 9]".
std::string without_range(std::string argument) {
  const std::size_t range = argument.find(" in [");
  if (range != std::string::npos) argument.resize(argument.rfind(':', range));
  return argument;
}

std::vector<Row> rows_of(const CLI::App& app) {
  std::vector<Row> rows;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;  // hidden
    Row row;
    for (const std::string& name : option->get_snames()) row.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) row.names.push_back("--" + name);
    if (option->get_expected_max() > 0 || row.names.empty()) {
      row.argument = without_range(option->get_type_name());
    }
    row.help = option->get_description();
    rows.push_back(std::move(row));
  }
  return rows;
}

bool names_files(const std::string& argument) {
  return argument.find("FILE") != std::string::npos || argument.find("DIR") != std::string::npos;
}

// Inside single quotes of a shell and the [] of zsh.
std::string quoted(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else if (c == '[' || c == ']' || c == ':') {
      out += fmt::format("\\{}", c);
    } else {
      out += c;
    }
  }
  return out;
}

std::string bash_script(const std::vector<Row>& rows, const std::string& tool) {
  std::string words, with_value;
  for (const Row& row : rows) {
    for (const std::string& name : row.names) {
      words += (words.empty() ? "" : " ") + name;
      if (!row.argument.empty() && !names_files(row.argument)) {
        with_value += (with_value.empty() ? "" : "|") + name;
      }
    }
  }
  std::string function = "_" + tool;
  for (char& c : function) {
    if (c == '-') c = '_';
  }
  std::string script = fmt::format(
      "{0}() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}}\n",
      function);
  if (!with_value.empty()) {
    script +=
        fmt::format("  case ${{COMP_WORDS[COMP_CWORD-1]}} in {}) return ;; esac\n", with_value);
  }
  script += fmt::format(
      "  if [[ $word == -* ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W '{1}' -- \"$word\")\n"
      "  else\n"
      "    mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
      "  fi\n"
      "}}\n"
      "complete -o filenames -F {0} {2}\n",
      function, words, tool);
  return script;
}

std::string zsh_script(const std::vector<Row>& rows, const std::string& tool) {
  std::string script = fmt::format("#compdef {}\n_arguments -s -S", tool);
  for (const Row& row : rows) {
    const std::string action = row.argument.empty()
                                   ? ""
                                   : fmt::format(":{}:{}", quoted(row.argument),
                                                 names_files(row.argument) ? "_files" : "");
    if (row.names.empty()) {
      script += fmt::format(" \\\n  '*:{}:_files'", quoted(row.argument));
    }
    for (const std::string& name : row.names) {
      script += fmt::format(" \\\n  '{}[{}]{}'", name, quoted(row.help), action);
    }
  }
  return script + "\n";
}

}  // namespace

std::string dump_options(const CLI::App& app) {
  std::string text;
  for (const Row& row : rows_of(app)) {
    text += fmt::format("{}\t{}\t{}\n", fmt::join(row.names, ","), row.argument, row.help);
  }
  return text;
}

std::string completion_script(const CLI::App& app, const std::string& tool,
                              const std::string& shell) {
  if (shell == "bash") return bash_script(rows_of(app), tool);
  if (shell == "zsh") return zsh_script(rows_of(app), tool);
  fail_usage("--completion '{}': give bash or zsh", shell);
}

}  // namespace kv
