# SPDX-License-Identifier: GPL-2.0
#
# The part of the kernel's tools/testing/selftests/lib.mk that the collections
# here use, so that they build without a kernel tree and, moved into one, with
# the kernel's lib.mk.  Variables and targets mean the same in both.

ifeq ($(OUTPUT),)
OUTPUT := $(CURDIR)
endif

CC ?= gcc
CFLAGS += -D_GNU_SOURCE= $(USERCFLAGS)
LDFLAGS += $(USERLDFLAGS)

TEST_GEN_PROGS := $(addprefix $(OUTPUT)/,$(TEST_GEN_PROGS))
TEST_GEN_PROGS_EXTENDED := $(addprefix $(OUTPUT)/,$(TEST_GEN_PROGS_EXTENDED))

all: $(TEST_GEN_PROGS) $(TEST_GEN_PROGS_EXTENDED)

$(OUTPUT)/%: %.c $(LOCAL_HDRS)
	@echo "  CC      $(notdir $@)"
	@mkdir -p $(OUTPUT)
	@$(LINK.c) $(filter-out $(LOCAL_HDRS),$^) $(LDLIBS) -o $@

install: all
	$(if $(INSTALL_PATH),,$(error set INSTALL_PATH to where to install))
	@mkdir -p $(INSTALL_PATH)
	@cp $(TEST_GEN_PROGS) $(TEST_GEN_PROGS_EXTENDED) $(TEST_PROGS) \
		$(TEST_FILES) $(wildcard config settings) $(INSTALL_PATH)

emit_tests:
	@for test in $(notdir $(TEST_GEN_PROGS)) $(TEST_PROGS); do \
		echo "$(COLLECTION):$$test"; \
	done

clean:
	rm -f $(TEST_GEN_PROGS) $(TEST_GEN_PROGS_EXTENDED)

.PHONY: all install emit_tests clean
