// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU plugin: how often each instruction of the guest was executed between
 * the marks that ngbench sets, START and STOP around a repeat, END after the
 * last one of a measurement. Of the repeats the shortest one counts.
 *
 * -plugin profile.so,out=FILE appends to FILE, for each measurement:
 *
 *	total COUNT
 *	ADDRESS COUNT	in hexadecimal, for each address executed
 *	...
 */
#include <glib.h>
#include <inttypes.h>
#include <qemu-plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* More addresses than a guest executes from boot to end. */
#define COUNTERS	(8U << 20)

enum mark { START = 1, STOP, END };

static FILE *out;
static struct qemu_plugin_scoreboard *board;
/* Address to counter and back. */
static GHashTable *counters;
static uint64_t addresses[COUNTERS];
static unsigned int used;
static uint64_t before[COUNTERS], best[COUNTERS], best_total = UINT64_MAX;

static void write_best(void)
{
	unsigned int i;

	fprintf(out, "total %" PRIu64 "\n", best_total);
	for (i = 0; i < used; i++)
		if (best[i])
			fprintf(out, "%" PRIx64 " %" PRIu64 "\n", addresses[i],
				best[i]);
	fflush(out);
	memset(best, 0, sizeof(best));
	best_total = UINT64_MAX;
}

static void marked(unsigned int vcpu, void *mark)
{
	uint64_t *now = qemu_plugin_scoreboard_find(board, vcpu), total = 0;
	unsigned int i;

	switch ((uintptr_t)mark) {
	case START:
		memcpy(before, now, sizeof(before));
		break;
	case STOP:
		for (i = 0; i < used; i++)
			total += now[i] - before[i];
		if (total >= best_total)
			break;
		best_total = total;
		for (i = 0; i < used; i++)
			best[i] = now[i] - before[i];
		break;
	case END:
		write_best();
		break;
	}
}

static unsigned int counter(uint64_t address)
{
	void *found = g_hash_table_lookup(counters, (void *)address);

	if (found)
		return (uintptr_t)found;
	/* 0 counts what does not fit, so that the total is right */
	if (used == COUNTERS)
		return 0;
	addresses[used] = address;
	g_hash_table_insert(counters, (void *)address, (void *)(uintptr_t)used);
	return used++;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	static const uint8_t nop[] = { 0x0f, 0x1f, 0x84, 0x00 };
	static const uint8_t magic[] = { 0x00, 0x67, 0x6e };
	size_t i, n = qemu_plugin_tb_n_insns(tb);
	struct qemu_plugin_insn *insn;
	qemu_plugin_u64 entry;
	uint8_t code[8];

	for (i = 0; i < n; i++) {
		insn = qemu_plugin_tb_get_insn(tb, i);
		entry.score = board;
		entry.offset = counter(qemu_plugin_insn_vaddr(insn)) *
			       sizeof(uint64_t);
		/* each instruction by itself: a fault may end the block early */
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
			insn, QEMU_PLUGIN_INLINE_ADD_U64, entry, 1);
		if (qemu_plugin_insn_data(insn, code, sizeof(code)) ==
			    sizeof(code) &&
		    !memcmp(code, nop, sizeof(nop)) &&
		    !memcmp(code + 5, magic, sizeof(magic)))
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, marked, QEMU_PLUGIN_CB_NO_REGS,
				(void *)(uintptr_t)code[4]);
	}
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
					   const qemu_info_t *info, int argc,
					   char **argv)
{
	if (argc != 1 || strncmp(argv[0], "out=", 4)) {
		fprintf(stderr, "profile: usage: -plugin profile.so,out=FILE\n");
		return -1;
	}
	out = fopen(argv[0] + 4, "w");
	if (!out) {
		perror(argv[0] + 4);
		return -1;
	}
	counters = g_hash_table_new(NULL, NULL);
	addresses[used++] = 0;
	board = qemu_plugin_scoreboard_new(COUNTERS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
