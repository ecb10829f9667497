# What is built can be installed and used, links what it may, and the texts beside it are sound.
set(checks ${CMAKE_CURRENT_SOURCE_DIR}/checks)
add_test(NAME check.shell COMMAND ${checks}/shell.sh ${PROJECT_SOURCE_DIR})
add_test(NAME check.man COMMAND ${checks}/man.sh ${PROJECT_SOURCE_DIR})
add_test(NAME check.format COMMAND ${checks}/format.sh)
set_tests_properties(check.shell check.man check.format PROPERTIES SKIP_RETURN_CODE 125)

get_property(light GLOBAL PROPERTY KV_TOOLS)
list(REMOVE_ITEM light kvprefill kvgen kvblend kveval kvcalibrate kvtune kvshare)
list(TRANSFORM light REPLACE "(.+)" "$<TARGET_FILE:\\1>")
add_test(NAME check.links COMMAND ${checks}/links.sh ${light})

if(KVTOOLS_TORCH AND NOT KVTOOLS_SANITIZE)
  add_test(NAME install.consumer COMMAND ${checks}/install.sh ${PROJECT_SOURCE_DIR}
    ${PROJECT_BINARY_DIR} ${CMAKE_CXX_COMPILER})
  set_tests_properties(install.consumer PROPERTIES TIMEOUT 300)
endif()
