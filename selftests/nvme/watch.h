/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test must leave as it was: the kernel log, pinned pages, the
 * kernel's memory, and the test bed's count of DMA outside of buffers.
 */
#ifndef NVME_TEST_WATCH_H
#define NVME_TEST_WATCH_H

#include "nvme_test.h"

void nt_log_mark(void);
void nt_log_quiet(void);
unsigned long nt_pins(void);
void nt_pins_mark(void);
void nt_pins_back(void);
void nt_pins_test(void);
long nt_kernel_kb(void);
unsigned long nt_pinned_kb(void);

/**
 * struct nt_rule - what a controller of the test bed does with a command
 * @nsid: of these commands, or 0 for any
 * @admin: 1 for the admin queue
 * @opcode: of these commands
 * @status: what they end with, instead of being executed
 * @delay_ms: after this time
 * @count: of them, or 0 for all
 */
struct nt_rule {
	__le32 nsid;
	__u8 admin;
	__u8 opcode;
	__le16 status;
	__le32 delay_ms;
	__le32 count;
};

void nt_inject(int ctrl_fd, const struct nt_rule *rule);

/* DMA outside of buffers, as the devices of the test bed count it. */
__u32 nt_oob(int ctrl_fd);
void nt_oob_reset(int ctrl_fd);

#endif /* NVME_TEST_WATCH_H */
