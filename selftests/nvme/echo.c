// SPDX-License-Identifier: GPL-2.0
/*
 * A command set that the kernel does not know: CSI 30h of the test bed, whose
 * device keeps what Echo Send sends and returns it for Echo Receive.
 */
#include "nvme_test.h"

static bool is_echo(const struct nt_ns *ns)
{
	return ns->csi == NVME_CSI_ECHO && ns->testbed;
}

static int echo(struct nt_ns *ns, enum nt_via via, __u8 opcode, void *data,
		__u32 len)
{
	struct nvme_uring_cmd cmd = {
		.opcode = opcode,
		.addr = (uintptr_t)data,
		.data_len = len,
		.cdw10 = len,
	};

	return nt_io(ns, via, &cmd, NULL);
}

static void send_receive(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 sizes[] = {
		1, 3, 4, 100, 511, 512, 4095, 4096, 4097, 8192, 12288, 65536,
		131072,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		char *data = nt_alloc(sizes[i], 0), *got = nt_alloc(sizes[i], 0);

		nt_fill(data, sizes[i], sizes[i]);
		nt_status(echo(ns, via, NVME_CMD_ECHO_SEND, data, sizes[i]),
			  NVME_SC_SUCCESS);
		nt_status(echo(ns, via, NVME_CMD_ECHO_RECEIVE, got, sizes[i]),
			  NVME_SC_SUCCESS);
		nt_same(got, data, sizes[i]);
	}
}

/* Less than was sent: its beginning, and nothing beyond the buffer. */
static void receive_less(struct nt_ns *ns, enum nt_via via)
{
	char *data = nt_alloc(8192, 0), *got = nt_alloc(8192, 0);
	char *poison = nt_alloc(8192, 0);

	nt_fill(data, 8192, 1);
	nt_status(echo(ns, via, NVME_CMD_ECHO_SEND, data, 8192),
		  NVME_SC_SUCCESS);
	nt_status(echo(ns, via, NVME_CMD_ECHO_RECEIVE, got, 5000),
		  NVME_SC_SUCCESS);
	nt_same(got, data, 5000);
	nt_same(got + 5000, poison, 3192);
}

static void buffer_offsets(struct nt_ns *ns, enum nt_via via)
{
	static const __u32 offsets[] = { 4, 512, 2044, 4092, 1, 4095 };
	char *want = nt_alloc(10000, 0);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		char *data = nt_alloc(10000, offsets[i]);
		char *got = nt_alloc(10000, offsets[i]);

		nt_fill(want, 10000, 10 + i);
		memcpy(data, want, 10000);
		nt_status(echo(ns, via, NVME_CMD_ECHO_SEND, data, 10000),
			  NVME_SC_SUCCESS);
		nt_status(echo(ns, via, NVME_CMD_ECHO_RECEIVE, got, 10000),
			  NVME_SC_SUCCESS);
		nt_same(got, want, 10000);
	}
}

static void no_data(struct nt_ns *ns, enum nt_via via)
{
	nt_status(echo(ns, via, NVME_CMD_ECHO_SEND, NULL, 0), NVME_SC_SUCCESS);
	nt_status(echo(ns, via, NVME_CMD_ECHO_RECEIVE, NULL, 0),
		  NVME_SC_SUCCESS);
}

static void unknown_opcode(struct nt_ns *ns, enum nt_via via)
{
	nt_status(echo(ns, via, 0x7c, NULL, 0), NVME_SC_INVALID_OPCODE);
}

static const struct nt_case cases[] = {
	{ "send_receive", send_receive },
	{ "receive_less", receive_less },
	{ "buffer_offsets", buffer_offsets },
	{ "no_data", no_data },
	{ "unknown_opcode", unknown_opcode },
};

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test commands of a command set unknown to the kernel.",
		.wants = "test bed's CSI 30h",
		.fits = is_echo,
	};

	return nt_run(argc, argv, &prog, cases, ARRAY_SIZE(cases));
}
