/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The rules of Documentation/access.rst, of which gen_access.py makes
 * access_table.h, and how to read them.
 */
#ifndef ACCESS_RULES_H
#define ACCESS_RULES_H

#include <stdbool.h>
#include <stddef.h>

/* Commands Supported and Effects log, a dword per opcode */
#define EFFECT_CSUPP	0x00000001U
#define EFFECT_LBCC	0x00000002U
/* CSE, UUID Selection Supported, scope */
#define EFFECT_NONE	0xffff0000U

enum access_queue { ACCESS_IO, ACCESS_ADMIN };
enum access_needs { ACCESS_READ, ACCESS_WRITE, ACCESS_CAP, ACCESS_NOBODY };
enum access_condition {
	ACCESS_ALWAYS,
	ACCESS_NO_CSUPP,
	ACCESS_OTHER_EFFECT,
	ACCESS_NO_LENGTH,
	ACCESS_LBCC,
	ACCESS_TO_CONTROLLER,
};

struct access_span {
	unsigned char first;
	unsigned char last;
};

struct access_rule {
	struct access_span csi;
	struct access_span opcode;
	struct access_span dw10;
	enum access_queue queue;
	enum access_condition condition;
	enum access_needs needs;
};

struct access_length {
	struct access_span csi;
	struct access_span opcode;
};

#include "access_table.h"

static bool access_within(unsigned char value, const struct access_span *span)
{
	return value >= span->first && value <= span->last;
}

/* Is it known how much data the command moves? */
static bool access_length_known(unsigned char csi, unsigned char opcode)
{
	size_t i;

	if (!(opcode & 3))
		return true;
	for (i = 0; i < sizeof(access_lengths) / sizeof(*access_lengths); i++)
		if (access_within(csi, &access_lengths[i].csi) &&
		    access_within(opcode, &access_lengths[i].opcode))
			return true;
	return false;
}

/*
 * Does the condition of a rule hold?  Where the controller takes PRPs only, it
 * is never told how long a buffer is.
 */
static bool access_holds(enum access_condition condition, unsigned char csi,
			 unsigned char opcode, unsigned int effects,
			 bool prp_only)
{
	switch (condition) {
	case ACCESS_ALWAYS:
		return true;
	case ACCESS_NO_CSUPP:
		return !(effects & EFFECT_CSUPP);
	case ACCESS_OTHER_EFFECT:
		return effects & ~(EFFECT_CSUPP | EFFECT_LBCC | EFFECT_NONE);
	case ACCESS_NO_LENGTH:
		return prp_only && !access_length_known(csi, opcode);
	case ACCESS_LBCC:
		return effects & EFFECT_LBCC;
	case ACCESS_TO_CONTROLLER:
		return opcode & 1;
	}
	return false;
}

#endif /* ACCESS_RULES_H */
