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
bool nt_log_has(const char *text);
void nt_log_room(const char *text);
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

/* &nt_fault.flags */
enum {
	NT_AFTER = 1 << 0,	/* status and delay follow the execution */
	NT_LOSE = 1 << 1,	/* no completion */
	NT_HOLD = 1 << 2,	/* none before an Abort has been answered */
	NT_AGAIN = 1 << 3,	/* a second one */
	NT_CORRUPT = 1 << 4,	/* the byte at @offset is inverted */
	NT_PARTIAL = 1 << 5,	/* data for the host ends at @offset */
	NT_QUEUE = 1 << 8,	/* only commands of queue @qid, */
	NT_LBA = 1 << 9,	/* with one of @nlb blocks from @slba on, */
	NT_KEY = 1 << 10,	/* or with @key */
};

/**
 * struct nt_fault - what else a controller of the test bed does with a command
 * @rule: the command, and the status and the delay
 * @skip: leave alone so many commands first
 * @every: and then all but each one of this number, or 0
 * @flags: NT_*
 * @qid: Submission Queue Identifier
 * @again_ms: from the first completion to the second
 * @offset: in the data
 * @kl: bytes of @key
 * @rsvd: 0
 * @key: Key Value key
 * @slba: first logical block
 * @nlb: number of logical blocks, or 0 for one
 * @rsvd2: 0
 */
struct nt_fault {
	struct nt_rule rule;
	__le32 skip;
	__le32 every;
	__le16 flags;
	__le16 qid;
	__le32 again_ms;
	__le32 offset;
	__u8 kl;
	__u8 rsvd[3];
	union {
		__u8 key[16];
		struct {
			__le64 slba;
			__le32 nlb;
		};
	};
	__u8 rsvd2[8];
};

void nt_faults(int ctrl_fd, const struct nt_fault *faults, unsigned int n);

/* of nt_raise(), instead of dword 0 of an Asynchronous Event Request */
enum {
	NT_RAISE_WAKE = 1 << 29,	/* nothing is delayed or held now, and */
	NT_RAISE_AGAIN = 1 << 30,	/* second completions are posted */
	NT_RAISE_FATAL = 1U << 31,	/* Controller Fatal Status */
};

void nt_raise(int ctrl_fd, __u32 what);

/* DMA outside of buffers, as the devices of the test bed count it. */
__u32 nt_oob(int ctrl_fd);
void nt_oob_reset(int ctrl_fd);

#endif /* NVME_TEST_WATCH_H */
