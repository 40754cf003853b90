// SPDX-License-Identifier: GPL-2.0
/*
 * Polled commands, also when the ring ends before they do.  Linux 6.1 takes the
 * function that is to complete a command for the bio to poll.
 */
#include "ring.h"

#define DEPTH	64

static struct nt_ring ring;

static bool is_nvm(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_NVM && !ns->extended;
}

/* Fill the ring with reads of one block each. */
static void fill(struct nt_ns *ns, unsigned char *data, unsigned char *meta)
{
	struct nvme_uring_cmd cmd = {
		.opcode = NVME_CMD_READ,
		.nsid = ns->nsid,
		.addr = (uintptr_t)data,
		.data_len = ns->lba_size,
	};
	unsigned int i;

	if (ns->ms) {
		cmd.metadata = (uintptr_t)meta;
		cmd.metadata_len = ns->ms;
	}
	for (i = 0; i < DEPTH; i++) {
		cmd.cdw10 = i;
		nt_ring_put(&ring, ns->dev.fd, NVME_URING_CMD_IO,
			    NT_UNREGISTERED, &cmd);
	}
	nt_ring_submit(&ring);
}

static void run_reaped(void *arg)
{
	struct nt_ns *ns = arg;
	unsigned char *data = nt_alloc(ns->lba_size, 0);
	unsigned char *meta = nt_alloc(ns->ms, 0);
	unsigned int round, i, name;
	int res;

	nt_ring_open(&ring, DEPTH, IORING_SETUP_IOPOLL);
	for (round = 0; round < 16; round++) {
		fill(ns, data, meta);
		for (i = 0; i < DEPTH; i++) {
			if (!nt_ring_reap(&ring, 20000, &name, &res))
				nt_fail("%u of %d commands completed", i,
					DEPTH);
			nt_status(res, NVME_SC_SUCCESS);
		}
	}
	nt_ring_quiet(&ring);
	nt_ring_close(&ring);
}

static void run_left(void *arg)
{
	struct nt_ns *ns = arg;
	unsigned char *data = nt_alloc(ns->lba_size, 0);
	unsigned char *meta = nt_alloc(ns->ms, 0);
	unsigned int round;

	for (round = 0; round < 32; round++) {
		nt_ring_open(&ring, DEPTH, IORING_SETUP_IOPOLL);
		fill(ns, data, meta);
		nt_ring_close(&ring);
	}
}

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test polled commands.",
		.wants = "NVM",
		.fits = is_nvm,
	};
	struct nt_ns *ns;
	size_t i, n;

	nt_init(argc, argv, &prog);
	ns = nt_namespaces(&n);
	nt_plan(2 * n);
	for (i = 0; i < n; i++) {
		nt_test(run_reaped, &ns[i], "%s reaped", ns[i].name);
		nt_test(run_left, &ns[i], "%s left in the ring", ns[i].name);
	}
	return nt_end();
}
