"""How far the heatmaps of a model can be trusted: what was measured, and the words for it that every output shows."""

from wsi_mil.trust.stage import TrustSources as TrustSources
from wsi_mil.trust.stage import write_trust as write_trust
from wsi_mil.trust.verdicts import UNTESTED as UNTESTED
from wsi_mil.trust.verdicts import Trust as Trust
from wsi_mil.trust.verdicts import read_trust as read_trust
from wsi_mil.trust.words import NO_LINE as NO_LINE
from wsi_mil.trust.words import OLD_LINE as OLD_LINE
from wsi_mil.trust.words import TrustLine as TrustLine
from wsi_mil.trust.words import model_line as model_line
from wsi_mil.trust.words import output_line as output_line
from wsi_mil.trust.words import trust_line as trust_line
