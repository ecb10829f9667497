#pragma once
// Where things lie that a program needs at run time: models, profiles.

#include <string>
#include <vector>

namespace kv {

// Paths in the environment variable (separated by ':'), then folders that come with the program,
// found from where it lies, so that neither a build nor an installed tree has its path compiled in:
// <prefix>/share/kvtools/NAME and <source>/.deps/NAME; then the user's own. They may not exist.
std::vector<std::string> search_folders(const char* environment, const std::string& name);

}  // namespace kv
