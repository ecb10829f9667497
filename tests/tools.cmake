# The real programs, as a user calls them.
set(cli ${CMAKE_CURRENT_SOURCE_DIR}/cli)
set(cli_args ${PROJECT_BINARY_DIR}/tools ${PROJECT_BINARY_DIR}/tests/cli)

kv_test(control_characters LIBS kv_base)

# kv_cli_test(name script [argument]): tests/cli/<script>.sh over the fixture's files.
function(kv_cli_test name script)
  add_test(NAME cli.${name} COMMAND ${cli}/${script}.sh ${cli_args} ${ARGN})
  set_tests_properties(cli.${name} PROPERTIES SKIP_RETURN_CODE 125 TIMEOUT 600
                                              FIXTURES_REQUIRED report)
endfunction()

add_test(NAME cli.fixture COMMAND ${cli}/fixture.sh ${cli_args})
set_tests_properties(cli.fixture PROPERTIES FIXTURES_SETUP report)
get_property(tools GLOBAL PROPERTY KV_TOOLS)
foreach(tool IN LISTS tools)
  kv_cli_test(options.${tool} options ${tool})
  kv_cli_test(man.${tool} manual ${tool})
endforeach()
foreach(script status files output pipes killed parts bad batch model importance blend eval calibrate tune share flipped
        convert diff tokstream_sim tokstream tokstream_load linkemu)
  kv_cli_test(${script} ${script})
endforeach()
foreach(script blend_quality ci_quality)
  kv_cli_test(${script} ${script} ${PROJECT_SOURCE_DIR})
endforeach()
